//! A Hutch process: the real binary, on its own ports.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::environment::Environment;
use super::volume;
use super::world::http;

/// How long a start, an end or a line of the log may take.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The log level: enough to explain a failure. A bench has the level that users have.
const LOG: &str = if cfg!(debug_assertions) {
    "info,hutch=debug"
} else {
    "info"
};

/// An argument of the tests only: starts the facade with authentication. The API keys are
/// in the namespace of the sandboxes.
pub const KEYED: &str = "keyed";

/// A running Hutch; dropping it kills it.
pub struct Hutch {
    process: Result<Child, Installed>,
    log: PathBuf,
    role: &'static str,
}

/// A Hutch that is installed in the cluster for [many tests](installed). They use nothing
/// but its routes.
#[derive(Clone)]
pub struct Installed {
    /// Base URL of its facade, with a key.
    pub url: String,
    /// The namespace of the key's tenant.
    pub namespace: String,
}

/// The variables that name an [installed Hutch](Installed).
pub const INSTALLED_URL: &str = "HUTCH_TEST_INSTALLED_URL";
pub const INSTALLED_NAMESPACE: &str = "HUTCH_TEST_INSTALLED_NAMESPACE";

/// The installed Hutch, if there is one. The tests of the contracts then use it one after
/// another instead of their own.
pub fn installed() -> Option<Installed> {
    Some(Installed {
        url: std::env::var(INSTALLED_URL).ok()?,
        namespace: std::env::var(INSTALLED_NAMESPACE).ok()?,
    })
}

impl Hutch {
    /// Starts `hutch ROLE` in `namespace`, with further arguments, and waits until
    /// it is ready; its log is appended to a file in `directory`.
    pub async fn start(
        environment: &Environment,
        namespace: &str,
        directory: &Path,
        role: &'static str,
        arguments: &[&str],
    ) -> Self {
        let hutch = Self::spawn(environment, namespace, directory, role, arguments);
        hutch.until_ready().await;
        hutch
    }

    /// The same without waiting for anything.
    pub fn spawn(
        environment: &Environment,
        namespace: &str,
        directory: &Path,
        role: &'static str,
        arguments: &[&str],
    ) -> Self {
        let number = std::fs::read_dir(directory).unwrap().count();
        let log = directory.join(format!("{number}-{role}.log"));
        let hutch = Path::new(env!("CARGO_BIN_EXE_hutch"));
        let mut command = if role == "node" {
            Command::new(hutch.with_file_name("hutch-node"))
        } else {
            let mut command = Command::new(hutch);
            command.arg(role);
            command
        };
        command.args(["--ops-listen", "127.0.0.1:0"]);
        if role != "node" {
            command.args(["--namespace", namespace]);
        }
        if !matches!(role, "controller" | "node") {
            if !arguments.contains(&"--listen") {
                command.args(["--listen", "127.0.0.1:0"]);
            }
            if arguments.contains(&KEYED) {
                command.args(["--operator-namespace", namespace]);
            } else {
                command.arg("--insecure-no-auth");
            }
        }
        if role != "facade" {
            command.args(["--watch-namespace", namespace]);
        }
        if !matches!(role, "facade" | "node") {
            command.args(["--lease-namespace", namespace]);
            command.args(["--agent-image", &environment.agent_image]);
        }
        let child = command
            .args(arguments.iter().filter(|argument| **argument != KEYED))
            .env("KUBECONFIG", &environment.kubeconfig)
            .env("HUTCH_NODE_DRIVER", volume::driver(namespace))
            .env("HUTCH_CSI_DRIVER", volume::driver(namespace))
            .env("RUST_LOG", LOG)
            // Every test has its own. It exists only if a test needs it, because a
            // controller deletes objects without an owner in it.
            .env("HUTCH_OPERATOR_NAMESPACE", format!("{namespace}-hutch"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("hutch starts");
        Self {
            process: Ok(child),
            log,
            role,
        }
    }

    /// The installed Hutch.
    pub fn installed(installed: Installed) -> Self {
        Self {
            process: Err(installed),
            log: PathBuf::new(),
            role: "run",
        }
    }

    fn child(&mut self) -> &mut Child {
        self.process.as_mut().ok().expect("a process of the test's")
    }

    /// Waits until the readiness probe succeeds.
    pub async fn until_ready(&self) {
        let ready = format!("{}/readyz", self.ops().await);
        let http = http();
        for _ in 0..PROCESS_TIMEOUT.as_millis() / 50 {
            if http
                .get(&ready)
                .send()
                .await
                .is_ok_and(|r| r.status().is_success())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("hutch is not ready; its log:\n{}", self.log());
    }

    /// Base URL of the REST facade.
    pub async fn url(&self) -> String {
        assert_ne!(self.role, "controller", "a controller has no facade");
        if let Err(installed) = &self.process {
            return installed.url.clone();
        }
        self.logged_after("REST on ").await
    }

    /// Base URL of probes and metrics.
    pub async fn ops(&self) -> String {
        self.logged_after("probes and metrics on ").await
    }

    /// Waits for `text` in the log, and returns the word that follows it.
    async fn logged_after(&self, text: &str) -> String {
        for _ in 0..PROCESS_TIMEOUT.as_millis() / 20 {
            let log = self.log();
            let found = log.lines().find_map(|line| line.split_once(text));
            if let Some((_, rest)) = found {
                return rest.split([' ', ',', '"']).next().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("hutch never logged `{text}`; its log:\n{}", self.log());
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        let process = self.process.as_ref().ok();
        process.expect("a process of the test's").id()
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        resident(self.pid())
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.ops().await);
        let answer = http().get(url).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// The sum of a counter or gauge over all its labels; 0 if the process has not reported
    /// it yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Sends SIGKILL, and waits for the end of the process.
    pub fn kill(mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.pid().to_string());
        let sent = Command::new("kill").args([signal, pid]).status();
        assert!(sent.unwrap().success());
    }

    /// True if the process has ended.
    pub fn ended(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    /// Sends SIGTERM and returns the exit status of the process.
    pub async fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.ends().await
    }

    /// Waits until the process has ended.
    pub async fn ends(mut self) -> ExitStatus {
        for _ in 0..PROCESS_TIMEOUT.as_millis() / 20 {
            if let Some(status) = self.child().try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("hutch did not end; its log:\n{}", self.log());
    }
}

impl Drop for Hutch {
    fn drop(&mut self) {
        let Ok(child) = &mut self.process else { return };
        // It may have ended already.
        let _ = child.kill();
        if let Ok(status) = child.wait()
            && status.signal() == Some(6)
        {
            eprintln!("hutch {} panicked; its log:\n{}", self.role, self.log());
        }
    }
}

/// Resident memory of a process, in bytes (`proc_pid_status(5)`).
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        * 1024
}
