//! A sandbox for one test: the agent as PID 1 of new namespaces, and clients that reach it
//! as a facade does. It ends with the test.

mod client;
mod image;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use hutch_wire::limits;
use hutch_wire::v1::agent_client::AgentClient;
use hutch_wire::v1::files_client::FilesClient;
use hutch_wire::v1::search_client::SearchClient;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, BufReader, join};
use tokio::process::{Child, Command};
use tonic::transport::Endpoint;

pub use client::{Call, Client, Outcome, argv, attach, env, script};
pub use image::{copy_libraries, put_agent};

use crate::wait::{WAIT_TIMEOUT, in_time};

/// The binary under test: the one that was just built, or the one that `HUTCH_AGENT` names,
/// for example the static one of the images.
pub fn agent() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        let built = env!("CARGO_BIN_EXE_hutch-agent");
        std::env::var("HUTCH_AGENT").unwrap_or_else(|_| built.into())
    });
    &PATH
}

pub struct Sandbox {
    namespaces: Child,
    pub pid: i32,
    log: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
    connects: PathBuf,
}

impl Sandbox {
    pub async fn new() -> Self {
        Self::start(&[], &[agent(), "run"], agent()).await
    }

    pub async fn with_entrypoint(entrypoint: &[&str]) -> Self {
        Self::start(
            &[],
            &[&[agent(), "run", "--"], entrypoint].concat(),
            agent(),
        )
        .await
    }

    /// Starts an agent with a state directory that outlives it.
    pub async fn with_state(state: &Path) -> Self {
        let state = state.to_str().unwrap();
        Self::start(&[], &[agent(), "run", "--state", state], agent()).await
    }

    /// Starts an agent with that file as its `/bin/bash`.
    pub async fn with_bash(bash: &Path, state: &Path) -> Self {
        let mount = "mount --bind \"$0\" /bin/bash && exec \"$@\"";
        let (bash, state) = (bash.to_str().unwrap(), state.to_str().unwrap());
        let command = ["sh", "-c", mount, bash, agent(), "run", "--state", state];
        Self::start(&[], &command, agent()).await
    }

    /// Starts an agent in the image under `root`, which contains it. Its state is in
    /// `/state`.
    pub async fn in_image(root: &Path) -> Self {
        let option = format!("--root={}", root.display());
        let command = ["/hutch-agent", "run", "--state", "/state"];
        Self::start(&[&option], &command, "/hutch-agent").await
    }

    /// Starts an agent in an image that has nothing but the agent and an empty `/proc`.
    pub async fn without_an_image(root: &Path) -> Self {
        std::fs::create_dir(root.join("proc")).unwrap();
        let option = format!("--root={}", root.display());
        Self::start(&[&option], &["/hutch-agent", "run"], "/hutch-agent").await
    }

    /// The same; the agent is an ordinary user without capabilities.
    pub async fn of_a_user(root: &Path, user: u32) -> Self {
        std::fs::create_dir(root.join("proc")).unwrap();
        let options = [
            format!("--root={}", root.display()),
            format!("--setuid={user}"),
            format!("--setgid={user}"),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Self::start(&options, &["/hutch-agent", "run"], "/hutch-agent").await
    }

    /// Starts a container that is not Hutch's. Its first process is a shell with that
    /// script, which prints `serves` on stderr.
    pub async fn of_others(script: &str) -> Self {
        Self::start(&[], &["sh", "-c", script], agent()).await
    }

    /// Starts another such container in the same network.
    pub async fn beside(&self, script: &str) -> Self {
        let mut unshare = Command::new("nsenter");
        unshare.args(["--net", "--target", &self.pid.to_string(), "unshare"]);
        Self::start_by(unshare, &["sh", "-c", script], agent()).await
    }

    async fn start(options: &[&str], command: &[&str], connects: &str) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.arg("--net").args(options);
        Self::start_by(unshare, command, connects).await
    }

    async fn start_by(mut unshare: Command, command: &[&str], connects: &str) -> Self {
        let mut namespaces = unshare
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(command)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(namespaces.stderr.take().unwrap()).lines();
        let serving = async {
            while let Some(line) = log.next_line().await.unwrap() {
                if line.ends_with("serves") {
                    break;
                }
            }
        };
        in_time("the agent logs that it serves", serving).await;
        let parent = namespaces.id().unwrap();
        let children = format!("/proc/{parent}/task/{parent}/children");
        let pid = std::fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        Self {
            namespaces,
            pid,
            log,
            connects: connects.into(),
        }
    }

    /// Opens a channel through a new `connect`.
    pub async fn connect(&self) -> Client {
        self.connect_by(&self.connects, &["connect"]).await
    }

    /// Opens a channel through another binary of the agent.
    pub async fn connect_by(&self, binary: &Path, arguments: &[&str]) -> Client {
        let child = Command::new("nsenter")
            .args([
                "--pid",
                "--net",
                "--mount",
                "--root",
                "--target",
                &self.pid.to_string(),
            ])
            .arg(binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.unwrap();
        let ends = join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let mut ends = Some(TokioIo::new(ends));
        let connector = tower::service_fn(move |_| {
            let ends = ends
                .take()
                .ok_or_else(|| std::io::Error::other("the channel was cut"));
            async move { ends }
        });
        let endpoint = Endpoint::from_static("http://agent")
            // Until the head of the response. `next_message` limits the rest.
            .timeout(WAIT_TIMEOUT)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW);
        let connecting = endpoint.connect_with_connector(connector);
        let channel = in_time("the channel opens", connecting).await.unwrap();
        let files = FilesClient::new(channel.clone());
        let search = SearchClient::new(channel.clone());
        let agent = AgentClient::new(channel).max_decoding_message_size(limits::MAX_MESSAGE);
        Client {
            agent,
            files,
            search,
            connect: child,
        }
    }

    pub fn resident_kilobytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn signal_from_outside(&self, name: &str) {
        assert!(self.signal(name), "the agent is gone");
    }

    /// True if the agent still ran and got the signal.
    fn signal(&self, name: &str) -> bool {
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.pid.to_string()])
            .status();
        status.unwrap().success()
    }

    /// Returns the next line of the agent's log; `None` after its end.
    pub async fn log_line(&mut self) -> Option<String> {
        let line = in_time("the next line of the log", self.log.next_line());
        line.await.unwrap()
    }

    /// Reads the log up to the line `text`.
    pub async fn log_until(&mut self, text: &str) {
        let awaited = format!("the log has the line {text:?}");
        let mut seen = Vec::new();
        let reading = async {
            loop {
                let Some(line) = self.log_line().await else {
                    panic!("the log ended before the line {text:?}: {seen:?}");
                };
                if line == text {
                    return;
                }
                seen.push(line);
            }
        };
        in_time(&awaited, reading).await;
    }

    pub async fn ended(mut self) -> std::process::ExitStatus {
        in_time("the sandbox ends", self.namespaces.wait())
            .await
            .unwrap()
    }
}

impl Drop for Sandbox {
    /// `--kill-child` has no effect after a change of user.
    fn drop(&mut self) {
        let Some(parent) = self.namespaces.id() else {
            return;
        };
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        if children.is_ok_and(|children| children.trim() == self.pid.to_string()) {
            // It may have ended by itself just now.
            self.signal("KILL");
        }
    }
}
