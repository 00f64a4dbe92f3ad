//! A Hutch process in the background. A running one is kept if it was started from the
//! same binary with the same arguments and environment. Else it is replaced.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::identity;
use super::place::Place;
use crate::process::{Daemon, Spec};
use crate::progress::Progress;
use crate::shell;

/// How long Hutch may take to fill its caches.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a running Hutch may take to finish its requests.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// A process to start.
pub(super) struct Role<'a> {
    /// Names the process's files.
    pub name: &'a str,
    /// The binary.
    pub program: &'a Path,
    /// Subcommand and arguments, without addresses.
    pub arguments: Vec<String>,
    /// The kubeconfig with its ServiceAccount.
    pub kubeconfig: &'a Path,
    /// True for a variable of the caller's environment that the process gets.
    pub gets_variable: fn(&str) -> bool,
    /// Preferred port for REST clients, if it serves any.
    pub rest: Option<u16>,
    /// Preferred port for probes.
    pub ops: u16,
}

/// A started process. It may not be ready yet.
pub(super) struct Background {
    pub log: PathBuf,
    pub reused: bool,
    setup: Setup,
    daemon: Daemon,
}

/// The inputs of a start. A running process is kept only if they are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Setup {
    listen: Option<SocketAddr>,
    ops: SocketAddr,
    program: PathBuf,
    /// Size and modification time of the program.
    version: (u64, i64, i64),
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
}

/// Stops the process of that name. Returns true if one was recorded.
pub(super) fn stop(directory: &Path, name: &str) -> Result<bool> {
    match Daemon::recorded(&record(directory, name)) {
        Some(daemon) => daemon.stop(DRAIN_TIMEOUT).map(|()| true),
        None => Ok(false),
    }
}

fn record(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("processes/{name}.json"))
}

impl Background {
    /// Returns the running process, or starts one.
    pub fn ensure(role: &Role<'_>, place: &Place, progress: &Progress) -> Result<Self> {
        let name = role.name;
        let record = record(&place.directory, name);
        for directory in ["processes", "logs"] {
            fs::create_dir_all(place.directory.join(directory))?;
        }
        let noted = place.directory.join(format!("{name}.setup"));
        let before: Option<Setup> = fs::read(&noted)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let running = Daemon::recorded(&record).filter(Daemon::is_alive);
        let mut wanted = Setup::new(role, before.as_ref())?;
        let log = place.directory.join(format!("logs/{name}.log"));
        if let (Some(daemon), Some(before)) = (&running, &before)
            && *before == wanted
        {
            let (setup, daemon) = (wanted, daemon.clone());
            let reused = true;
            return Ok(Self {
                log,
                reused,
                setup,
                daemon,
            });
        }
        if let Some(daemon) = running {
            progress.say(&format!(
                "{name} runs with another binary or other settings: restarting it"
            ));
            daemon.stop(DRAIN_TIMEOUT)?;
        }
        wanted.choose_ports(progress)?;
        let _ = fs::remove_file(&log);
        let spec = wanted.spec(&log, &record);
        let daemon = match &place.cluster {
            Some(cluster) => cluster.spawn(&spec)?,
            None => Daemon::spawn(&spec)?,
        };
        // Its environment can contain passwords.
        identity::write_private(&noted, &serde_json::to_string(&wanted)?)?;
        let (setup, reused) = (wanted, false);
        Ok(Self {
            log,
            reused,
            setup,
            daemon,
        })
    }

    /// Waits until it has filled its caches. Fails with the end of its log.
    pub fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let url = format!("http://{}/readyz", self.setup.ops);
        let mut said = "no answer".to_owned();
        loop {
            match super::first::client().get(&url).call() {
                Ok(answer) if answer.status() == 200 => return Ok(()),
                Ok(mut answer) => said = answer.body_mut().read_to_string().unwrap_or(said),
                Err(error) => said = error.to_string(),
            }
            let log = self.log.display();
            if !self.daemon.is_alive() {
                bail!("it has ended; the end of {log}:\n{}", self.last_lines());
            }
            if Instant::now() > deadline {
                bail!(
                    "not ready after {} s ({}); the end of {log}:\n{}",
                    READY_TIMEOUT.as_secs(),
                    said.trim(),
                    self.last_lines()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The address for REST clients, if it serves any.
    pub fn listens_on(&self) -> Option<SocketAddr> {
        self.setup.listen
    }

    /// The last 15 lines of its log.
    pub fn last_lines(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        shell::last_lines(&String::from_utf8_lossy(&log), 15)
    }
}

impl Setup {
    /// The inputs of a new start. It keeps the ports of `before`, so that URLs stay valid.
    fn new(role: &Role<'_>, before: Option<&Self>) -> Result<Self> {
        let file = fs::metadata(role.program)?;
        let mut env = passed_on(std::env::vars_os(), role.gets_variable);
        let kubeconfig = role.kubeconfig.display().to_string();
        env.insert("KUBECONFIG".to_owned(), kubeconfig);
        let usual = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = match role.rest {
            None => None,
            Some(port) => {
                let last = before.and_then(|before| before.listen);
                Some(listen_setting()?.or(last).unwrap_or(usual(port)))
            }
        };
        Ok(Self {
            listen,
            ops: before.map_or(usual(role.ops), |before| before.ops),
            program: role.program.to_path_buf(),
            version: (file.size(), file.mtime(), file.mtime_nsec()),
            arguments: role.arguments.clone(),
            env,
        })
    }

    /// Replaces ports that other programs use. An address of HUTCH_LISTEN is not replaced.
    fn choose_ports(&mut self, progress: &Progress) -> Result<()> {
        if let Some(wanted) = self.listen {
            let next = match listen_setting()? {
                None => free(wanted, None)?,
                Some(_) if TcpListener::bind(wanted).is_ok() => wanted,
                Some(_) => {
                    bail!("HUTCH_LISTEN is {wanted}, which is in use: choose another address")
                }
            };
            if next != wanted {
                let port = wanted.port();
                progress.say(&format!("port {port} is in use; Hutch listens on {next}"));
            }
            self.listen = Some(next);
        }
        self.ops = free(self.ops, self.listen)?;
        Ok(())
    }

    fn spec(&self, log: &Path, record: &Path) -> Spec {
        let mut spec = Spec::new(&self.program, log, record).args(&self.arguments);
        if let Some(listen) = self.listen {
            spec = spec.args(["--listen", &listen.to_string()]);
        }
        spec = spec.args(["--ops-listen", &self.ops.to_string()]);
        for (name, value) in &self.env {
            spec = spec.env(name, value);
        }
        spec
    }
}

/// The variables of the caller's environment that the process gets. Names and values that
/// are not UTF-8 are left out, because the record of the start is JSON.
fn passed_on(
    environment: impl Iterator<Item = (OsString, OsString)>,
    gets_variable: fn(&str) -> bool,
) -> BTreeMap<String, String> {
    environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| gets_variable(name))
        .collect()
}

/// The address in HUTCH_LISTEN, if it is set.
fn listen_setting() -> Result<Option<SocketAddr>> {
    match std::env::var("HUTCH_LISTEN") {
        Ok(text) if !text.is_empty() => {
            let address = text.parse();
            Ok(Some(address.with_context(|| {
                format!("HUTCH_LISTEN is {text:?}, which is not an address: write IP:PORT")
            })?))
        }
        _ => Ok(None),
    }
}

/// The address, or the same with the next free port. Never returns `but`.
fn free(wanted: SocketAddr, but: Option<SocketAddr>) -> Result<SocketAddr> {
    let ports = wanted.port()..=wanted.port().saturating_add(99);
    let mut addresses = ports.map(|port| SocketAddr::new(wanted.ip(), port));
    let free =
        addresses.find(|address| Some(*address) != but && TcpListener::bind(address).is_ok());
    free.with_context(|| format!("{wanted} and the 99 ports after it are in use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_gets_its_variables_only() {
        let environment = ["A", "B"].map(|name| (name.into(), "x".into()));
        let passed = passed_on(environment.into_iter(), |name| name == "B");
        assert_eq!(passed, BTreeMap::from([("B".to_owned(), "x".to_owned())]));
    }

    #[test]
    fn a_port_in_use_is_skipped() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = taken.local_addr().unwrap();
        if wanted.port() < 65_000 {
            let next = free(wanted, None).unwrap();
            assert!(free(next, Some(next)).unwrap() != next);
            assert!(free(wanted, None).unwrap().port() > wanted.port());
        }
    }
}
