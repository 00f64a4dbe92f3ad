//! `hutch-agent run`: creates the parts, connects them and shuts them down in order.
//!
//! One thread runs everything except the calls of `files` and `search`; nothing may block
//! it. A SIGTERM
//! that counts (see `signals`) ends it: all processes get SIGTERM and a short time, and
//! the exit of PID 1 kills the rest.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Signal, getpid, set_child_subreaper, set_dumpable_behavior,
};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::{Instant, timeout_at};

use crate::execution::{Executions, ShellPool, Starter};
use crate::files::{self, Files};
use crate::lock::Lock;
use crate::log;
use crate::process::signals::{Event, Signals};
use crate::process::{Ended, Environment, Launch, Pid, Reaper, WorkingDirectory, launch, tree};
use crate::search::Search;
use crate::server::{self, Service};
use crate::session::Sessions;

/// How long processes have to end after a SIGTERM; short, so that deleting a pod is
/// quick.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until a SIGTERM that counts. With `attached`, it runs in a container that
/// Hutch did not create, on an inherited socket.
///
/// # Errors
/// If it cannot start: no socket, no memory.
pub fn run(state: &Path, entrypoint: &[OsString], attached: bool) -> io::Result<()> {
    limit_allocator_memory();
    // Its memory has the output of commands, and its descriptors give access to each.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_child_subreaper(Some(getpid()))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(files::MAX_THREADS)
        .thread_keep_alive(files::THREAD_IDLE_TIMEOUT)
        .thread_stack_size(files::STACK_BYTES)
        .build()?
        .block_on(serve(state, entrypoint, attached))
}

async fn serve(state: &Path, entrypoint: &[OsString], attached: bool) -> io::Result<()> {
    // An attached agent gets no signal from the kubelet; it ends with its container.
    let signals = Signals::block(attached || getpid().is_init())?;
    let listener = server::bind(attached).map_err(|problem| {
        io::Error::new(
            problem.kind(),
            format!("cannot open the agent's socket: {problem}"),
        )
    })?;
    let reaper = Reaper::default();
    let starter = starter(&reaper)?;
    let service = service(starter, state, entrypoint)?;
    let server = tokio::spawn(server::serve(
        listener,
        service,
        Files::new()?,
        Search::new()?,
    ));
    tokio::select! {
        ended = server => Err(io::Error::other(format!("the server has ended: {ended:?}"))),
        never = until_terminated(&signals, &reaper) => match never {
            Ok(never) => match never {},
            Err(Terminated) => {
                end_all(&signals, &reaper).await;
                Ok(())
            }
        }
    }
}

/// Creates the part that starts processes, and its pool of idle shells.
fn starter(reaper: &Reaper) -> io::Result<Arc<Starter>> {
    let environment = Environment::of_the_agent();
    let shells = Arc::new(ShellPool::new(&environment, nothing()?, reaper));
    tokio::spawn(Arc::clone(&shells).run());
    Ok(Arc::new(Starter {
        home: WorkingDirectory::current().map_err(|problem| {
            let problem = io::Error::from(problem);
            let text = format!("the workspace is closed to the agent's user: {problem}");
            io::Error::new(problem.kind(), text)
        })?,
        environment,
        nothing: nothing()?,
        reaper: reaper.clone(),
        executions: Arc::new(Executions::default()),
        shells,
    }))
}

/// Loads the sessions, starts the entrypoint and creates the `Agent` service.
fn service(starter: Arc<Starter>, state: &Path, entrypoint: &[OsString]) -> io::Result<Service> {
    let sessions = Arc::new(Sessions::load(Arc::clone(&starter), state, &random()?));
    log::line(&format!("version {} serves", env!("CARGO_PKG_VERSION")));
    let user = Arc::new(Lock::new(None));
    start_entrypoint(entrypoint, &starter, &user);
    let executions = Arc::clone(&starter.executions);
    let service = Service {
        instance: random()?,
        starter,
        executions: Arc::clone(&executions),
        sessions: Arc::clone(&sessions),
        entrypoint: user,
    };
    tokio::spawn(async move { executions.expire().await });
    tokio::spawn(async move { sessions.expire().await });
    Ok(service)
}

/// The sandbox must end.
struct Terminated;

async fn until_terminated(signals: &Signals, reaper: &Reaper) -> Result<Infallible, Terminated> {
    loop {
        match signals.next().await {
            Event::Child => reaper.reap(),
            Event::Terminate => return Err(Terminated),
        };
    }
}

async fn end_all(signals: &Signals, reaper: &Reaper) {
    log::line("ends, as it was asked to from outside");
    let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
    tree::signal_descendants(Signal::TERM);
    // A stopped process would not handle SIGTERM.
    tree::signal_descendants(Signal::CONT);
    while reaper.reap() {
        if timeout_at(deadline, signals.next()).await.is_err() {
            tree::signal_descendants(Signal::KILL);
            return;
        }
    }
}

fn start_entrypoint(arguments: &[OsString], starter: &Starter, user: &Arc<Lock<Option<Pid>>>) {
    if arguments.is_empty() {
        return;
    }
    let arguments: Vec<CString> = arguments
        .iter()
        .filter_map(|argument| CString::new(argument.as_bytes()).ok())
        .collect();
    let launched = launch(&Launch {
        arguments: &arguments,
        file: None,
        environment: &starter.environment,
        stdin: starter.nothing.as_fd(),
        output: None,
        inherited: &[],
    });
    let name = arguments[0].to_string_lossy().into_owned();
    let pid = match launched {
        Ok(pid) => pid,
        Err(problem) => {
            log::line(&format!("the entrypoint {name} did not start: {problem:?}"));
            return;
        }
    };
    *user.lock() = Some(pid);
    let ended = starter.reaper.watch(pid);
    let user = Arc::clone(user);
    tokio::spawn(async move {
        let how = match ended.await {
            Ok(Ended::Exited(code)) => format!("ended with exit code {code}"),
            Ok(Ended::Killed(signal)) => format!("was killed by signal {signal}"),
            // It may be continued, by the process that stopped it.
            Ok(Ended::Stopped(signal)) => {
                return log::line(&format!(
                    "the entrypoint {name} was stopped by signal {signal}"
                ));
            }
            Err(_) => return,
        };
        *user.lock() = None;
        log::line(&format!("the entrypoint {name} {how}"));
    });
}

/// An input that is at its end; it works without `/dev/null` in the image, too.
fn nothing() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match openat(CWD, c"/dev/null", flags, Mode::empty()) {
        Ok(null) => Ok(null),
        Err(_) => Ok(pipe_with(PipeFlags::CLOEXEC)?.0),
    }
}

fn random() -> io::Result<String> {
    let random: [u8; 16] = {
        let mut bytes = [0; 16];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        bytes
    };
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns large freed blocks to the kernel. Otherwise the allocator would raise its
/// thresholds after one 16 MB script and keep that much memory for ever.
fn limit_allocator_memory() {
    const THRESHOLD: i32 = 256 << 10;
    // SAFETY: mallopt has no preconditions; it only sets allocator parameters.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
    }
}
