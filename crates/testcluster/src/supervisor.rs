//! The client of the cluster's supervisor (`tools/supervise`). The supervisor is the parent
//! of every component and reaps it. It only starts processes; `process` finds and stops
//! them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::process::{Daemon, Spec};

pub(crate) struct Supervisor {
    socket: PathBuf,
}

#[derive(Serialize)]
struct Request<'a> {
    argv: Vec<String>,
    env: Vec<String>,
    dir: &'a Path,
    log: &'a Path,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    error: String,
}

impl Supervisor {
    /// Connects to the running supervisor, or starts one.
    pub fn start(program: &Path, socket: &Path, log: &Path, record: &Path) -> Result<Self> {
        let supervisor = Self {
            socket: socket.to_path_buf(),
        };
        if Daemon::recorded(record).is_some_and(|daemon| daemon.is_alive())
            && supervisor.connect().is_ok()
        {
            return Ok(supervisor);
        }
        if let Some(daemon) = Daemon::recorded(record) {
            daemon.kill()?;
        }
        Daemon::spawn(&Spec::new(program, log, record).arg(socket))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while supervisor.connect().is_err() {
            if Instant::now() > deadline {
                bail!("the supervisor does not answer: see {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(supervisor)
    }

    /// Starts a process as the supervisor's child and records it. Its environment is
    /// exactly `spec.env`; it inherits nothing.
    pub fn spawn(&self, spec: &Spec) -> Result<Daemon> {
        Daemon::refuse_second(&spec.record)?;
        let text = |value: &std::ffi::OsString| {
            value
                .clone()
                .into_string()
                .map_err(|value| anyhow!("{} is not UTF-8", value.display()))
        };
        let request = Request {
            argv: spec.argv.iter().map(text).collect::<Result<_>>()?,
            env: spec
                .env
                .iter()
                .map(|(name, value)| Ok(format!("{name}={}", text(value)?)))
                .collect::<Result<_>>()?,
            dir: spec.dir.as_deref().unwrap_or(Path::new("/")),
            log: &spec.log,
        };
        let answer = self.ask(&request).context("asking the supervisor")?;
        if answer.pid == 0 {
            bail!("cannot start {}: {}", request.argv.join(" "), answer.error);
        }
        Daemon::adopt(answer.pid, &spec.record)
    }

    fn ask(&self, request: &Request) -> Result<Answer> {
        let mut stream = self.connect()?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        Ok(stream)
    }
}
