//! A Hutch process in the background. One that runs already is kept when it was
//! started from the same binary in the same way, else it is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::process::{Daemon, Spec};
use crate::progress::Progress;
use crate::shell;

/// How long Hutch may take to know its cluster.
const START: Duration = Duration::from_secs(60);
/// How long a running Hutch may take to end its requests.
const DRAIN: Duration = Duration::from_secs(15);
/// What is ours to say, and not the caller's environment.
const OURS: [&str; 5] = [
    "HUTCH_KUBECONFIG",
    "HUTCH_TESTCLUSTER",
    "HUTCH_LISTEN",
    "HUTCH_OPS_LISTEN",
    "HUTCH_AGENT_IMAGE",
];

/// What to start.
pub(super) struct Role<'a> {
    /// Names the process's files.
    pub name: &'a str,
    /// The `hutch` binary.
    pub program: &'a Path,
    /// Subcommand and arguments, without addresses.
    pub arguments: Vec<String>,
    /// The identity that it has in the cluster.
    pub kubeconfig: &'a Path,
    /// First choice of a port for REST clients, if it serves any.
    pub rest: Option<u16>,
    /// First choice of a port for probes.
    pub ops: u16,
}

/// A Hutch that was started, and may not be ready yet.
pub(super) struct Background {
    pub log: PathBuf,
    pub reused: bool,
    setup: Setup,
    daemon: Daemon,
}

/// Everything that makes one start differ from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Setup {
    listen: Option<SocketAddr>,
    ops: SocketAddr,
    program: PathBuf,
    /// Size, and when it was changed.
    version: (u64, i64, i64),
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
}

/// Stops the process of that name, if one was started; returns whether it was.
pub(super) fn stop(folder: &Path, name: &str) -> Result<bool> {
    match Daemon::recorded(&record(folder, name)) {
        Some(daemon) => daemon.stop(DRAIN).map(|()| true),
        None => Ok(false),
    }
}

/// The record of the process.
fn record(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("processes/{name}.json"))
}

impl Background {
    /// The running process, or a new one.
    pub fn ensure(role: &Role<'_>, place: &Place, progress: &Progress) -> Result<Self> {
        let name = role.name;
        let record = record(&place.folder, name);
        for folder in ["processes", "logs"] {
            fs::create_dir_all(place.folder.join(folder))?;
        }
        let noted = place.folder.join(format!("{name}.setup"));
        let before: Option<Setup> = fs::read(&noted)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let running = Daemon::recorded(&record).filter(Daemon::is_alive);
        let mut wanted = Setup::new(role, before.as_ref())?;
        let log = place.folder.join(format!("logs/{name}.log"));
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
                "{name} was started from something else: it is started anew"
            ));
            daemon.stop(DRAIN)?;
        }
        wanted.choose_ports(progress)?;
        let _ = fs::remove_file(&log);
        let spec = wanted.spec(&log, &record);
        let daemon = match &place.cluster {
            Some(cluster) => cluster.spawn(&spec)?,
            None => Daemon::spawn(&spec)?,
        };
        fs::write(&noted, serde_json::to_vec(&wanted)?)?;
        let (setup, reused) = (wanted, false);
        Ok(Self {
            log,
            reused,
            setup,
            daemon,
        })
    }

    /// Waits until it has filled its caches.
    pub fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + START;
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
                    START.as_secs(),
                    said.trim(),
                    self.last_lines()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where REST clients are served, if they are.
    pub fn listens_on(&self) -> Option<SocketAddr> {
        self.setup.listen
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        shell::last_lines(&String::from_utf8_lossy(&log), 15)
    }
}

impl Setup {
    /// What is wanted, on the ports of `before`.
    fn new(role: &Role<'_>, before: Option<&Self>) -> Result<Self> {
        let file = fs::metadata(role.program)?;
        let mut env: BTreeMap<_, _> = std::env::vars()
            .filter(|(name, _)| name.starts_with("HUTCH_") && !OURS.contains(&name.as_str()))
            .collect();
        env.extend(std::env::var("RUST_LOG").map(|value| ("RUST_LOG".to_owned(), value)));
        let kubeconfig = role.kubeconfig.display().to_string();
        env.insert("KUBECONFIG".to_owned(), kubeconfig);
        let usual = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listen = match role.rest {
            None => None,
            Some(port) => {
                let last = before.and_then(|before| before.listen);
                Some(asked()?.or(last).unwrap_or(usual(port)))
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

    /// Moves on from ports that others have.
    fn choose_ports(&mut self, progress: &Progress) -> Result<()> {
        if let Some(wanted) = self.listen {
            let next = match asked()? {
                None => free(wanted, None)?,
                Some(_) if TcpListener::bind(wanted).is_ok() => wanted,
                Some(_) => {
                    bail!("HUTCH_LISTEN says {wanted}, which is taken: choose another address")
                }
            };
            if next != wanted {
                let port = wanted.port();
                progress.say(&format!("port {port} is taken; Hutch listens on {next}"));
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

/// The address that HUTCH_LISTEN asks for.
fn asked() -> Result<Option<SocketAddr>> {
    match std::env::var("HUTCH_LISTEN") {
        Ok(text) if !text.is_empty() => {
            let address = text.parse();
            Ok(Some(address.with_context(|| {
                format!("HUTCH_LISTEN says {text:?}, which is no address")
            })?))
        }
        _ => Ok(None),
    }
}

/// The address, or one on the next free port; never `but`.
fn free(wanted: SocketAddr, but: Option<SocketAddr>) -> Result<SocketAddr> {
    let ports = wanted.port()..=wanted.port().saturating_add(99);
    let mut addresses = ports.map(|port| SocketAddr::new(wanted.ip(), port));
    let free =
        addresses.find(|address| Some(*address) != but && TcpListener::bind(address).is_ok());
    free.with_context(|| format!("{wanted} and the 99 ports after it are taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = taken.local_addr().unwrap();
        if wanted.port() < 65_000 {
            let next = free(wanted, None).unwrap();
            assert!(free(next, Some(next)).unwrap() != next);
            assert!(free(wanted, None).unwrap().port() > wanted.port());
        }
    }
}
