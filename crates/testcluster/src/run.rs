//! `testcluster run`: a cluster for one command.
//!
//! The clusters that it started are removed when this process ends, except after SIGKILL.
//! A signal ends a build at once. It ends the start of a cluster only when the start is
//! complete, because half a cluster is harder to remove. It is passed on to the command.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hutch_testcluster::{Cluster, Options, Profile};
use rustix::process::{Pid, Signal, WaitOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long the command may take to end after a signal, before SIGKILL.
const SIGNAL_GRACE: Duration = Duration::from_secs(20);

pub(crate) fn run(options: &Options, command: &[OsString]) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    if std::env::var_os("HUTCH_KUBECONFIG").is_some_and(|path| !path.is_empty()) {
        return Ok(code(
            command
                .status()
                .with_context(|| format!("cannot run {}", program.display()))?,
        ));
    }
    let interrupted = Interrupted::listen()?;
    let were_up: Vec<_> = both(options)
        .into_iter()
        .filter(is_up)
        .map(|one| one.profile)
        .collect();
    interrupted.or_at_once(|| prepare(options))?;
    // Orphans of the command and of the supervisor become children of this process. They are
    // reaped with it, also if the machine's PID 1 does not reap.
    rustix::process::set_child_subreaper(Pid::from_raw(1))?;
    let ended = with_cluster(options, &mut command, &interrupted);
    let mut taken_down = Ok(());
    for one in both(options)
        .iter()
        .filter(|one| !were_up.contains(&one.profile))
        .rev()
    {
        taken_down = taken_down.and(Cluster::take_down(one));
    }
    reap();
    taken_down?;
    ended
}

/// Builds the cluster's parts, and in parallel the S3 server and Helm for the tests.
fn prepare(options: &Options) -> Result<()> {
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            Cluster::s3_server(options)?;
            Cluster::helm(options)
        });
        Cluster::prepare(options)?;
        let others = others.join().map_err(|_| anyhow!("a build thread died"))?;
        others.map(drop)
    })
}

/// Reaps ended children. They would stay zombies under a PID 1 that does not reap.
fn reap() {
    while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
}

fn with_cluster(
    options: &Options,
    command: &mut Command,
    interrupted: &Interrupted,
) -> Result<ExitCode> {
    let cluster = Cluster::up(options)?;
    if let Some(signal) = interrupted.signal() {
        return Ok(ended_by(signal));
    }
    command.envs(crate::variables(&cluster, options)?);
    command.env("HUTCH_VERSITYGW", Cluster::s3_server(options)?);
    command.env("HUTCH_HELM", Cluster::helm(options)?);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let status = wait(&mut child, interrupted)?;
    Ok(interrupted.signal().map_or_else(|| code(status), ended_by))
}

/// Waits for the command. Passes a signal on, and sends SIGKILL after `SIGNAL_GRACE`.
fn wait(child: &mut Child, interrupted: &Interrupted) -> Result<ExitStatus> {
    let mut deadline = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(signal) = interrupted.signal() {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            match (deadline, pid) {
                // The terminal has sent SIGINT to the command as well.
                (None, Some(pid)) if signal != SIGINT => {
                    // It may have ended just now.
                    let _ = rustix::process::kill_process(pid, Signal::TERM);
                }
                (Some(deadline), _) if Instant::now() > deadline => child.kill()?,
                _ => {}
            }
            deadline = deadline.or(Some(Instant::now() + SIGNAL_GRACE));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The options of both clusters that a state directory can have.
fn both(options: &Options) -> [Options; 2] {
    [Profile::Current, Profile::Older].map(|profile| Options {
        profile,
        ..options.clone()
    })
}

fn is_up(options: &Options) -> bool {
    options
        .root()
        .is_ok_and(|root| root.join("kubeconfig").exists())
        && Cluster::attach(options).is_ok_and(|cluster| cluster.is_up())
}

fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, signal) => ended_by(signal.unwrap_or(1)),
    }
}

/// The exit code after a signal, as in a shell.
fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

/// The first signal to end that this process received.
#[derive(Clone)]
struct Interrupted(Arc<AtomicI32>);

impl Interrupted {
    fn listen() -> Result<Self> {
        let first = Self(Arc::new(AtomicI32::new(0)));
        let noted = first.clone();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let _ = noted
                    .0
                    .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
                let _ = writeln!(std::io::stderr(), "testcluster: interrupted");
            }
        });
        Ok(first)
    }

    fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Runs work that can be abandoned: a signal exits the process at once.
    fn or_at_once(&self, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        let (done, ended) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || done.send(work()));
            loop {
                match ended.recv_timeout(Duration::from_millis(50)) {
                    Ok(result) => return result,
                    Err(mpsc::RecvTimeoutError::Disconnected) => {
                        anyhow::bail!("a build thread died")
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
                if let Some(signal) = self.signal() {
                    std::process::exit(128 + signal);
                }
            }
        })
    }
}
