//! A sandbox for one test: the agent as PID 1 of fresh namespaces, and clients
//! that reach it as a facade does. Ends with the test.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hutch_wire::limits;
use hutch_wire::v1::agent_client::AgentClient;
use hutch_wire::v1::exec_input::Input;
use hutch_wire::v1::exec_output::Output;
use hutch_wire::v1::files_client::FilesClient;
use hutch_wire::v1::search_client::SearchClient;
use hutch_wire::v1::start::Program;
use hutch_wire::v1::{
    Ack, ActivityReply, ActivityRequest, Argv, Attach, ExecInput, ExecOutput, Exit, Start, StdinEnd,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, BufReader, join};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// The binary under test: the one just built, or another, say the static one
/// that goes into images, by its path in `HUTCH_AGENT`.
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

    /// With a state folder that outlives it.
    pub async fn with_state(state: &Path) -> Self {
        let state = state.to_str().unwrap();
        Self::start(&[], &[agent(), "run", "--state", state], agent()).await
    }

    /// With that file as its `/bin/bash`.
    pub async fn with_bash(bash: &Path, state: &Path) -> Self {
        let mount = "mount --bind \"$0\" /bin/bash && exec \"$@\"";
        let (bash, state) = (bash.to_str().unwrap(), state.to_str().unwrap());
        let command = ["sh", "-c", mount, bash, agent(), "run", "--state", state];
        Self::start(&[], &command, agent()).await
    }

    /// In the image under `root`, which has the agent, with its state in
    /// `/state`.
    pub async fn in_image(root: &Path) -> Self {
        let option = format!("--root={}", root.display());
        let command = ["/hutch-agent", "run", "--state", "/state"];
        Self::start(&[&option], &command, "/hutch-agent").await
    }

    /// In an image that has nothing but the agent and an empty `/proc`.
    pub async fn without_an_image(root: &Path) -> Self {
        std::fs::create_dir(root.join("proc")).unwrap();
        let option = format!("--root={}", root.display());
        Self::start(&[&option], &["/hutch-agent", "run"], "/hutch-agent").await
    }

    /// The same, and the agent is an ordinary user without capabilities.
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

    /// A container that is not Hutch's: its first process is a shell with that
    /// script, which says on stderr that it `serves`.
    pub async fn of_others(script: &str) -> Self {
        Self::start(&[], &["sh", "-c", script], agent()).await
    }

    /// Another such container in the same network.
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
        while let Some(line) = log.next_line().await.unwrap() {
            if line.ends_with("serves") {
                break;
            }
        }
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

    /// A channel of its own, through a `connect` of its own.
    pub async fn connect(&self) -> Client {
        self.connect_by(&self.connects, &["connect"]).await
    }

    /// A channel through another binary of the agent.
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
        let channel = Endpoint::from_static("http://agent")
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .connect_with_connector(connector)
            .await
            .unwrap();
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

    /// What the agent, and the processes it has reaped, have used.
    pub fn processor_milliseconds(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        // From `utime` to `cstime`, in ticks of 10 ms.
        let times = fields.split_whitespace().skip(11).take(4);
        times.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
    }

    pub fn signal_from_outside(&self, name: &str) {
        assert!(self.signal(name), "the agent is gone");
    }

    /// Whether the agent was there to be signalled.
    fn signal(&self, name: &str) -> bool {
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.pid.to_string()])
            .status();
        status.unwrap().success()
    }

    /// The agent's next line of log; none when it has ended.
    pub async fn log_line(&mut self) -> Option<String> {
        self.log.next_line().await.unwrap()
    }

    pub async fn ended(mut self) -> std::process::ExitStatus {
        self.namespaces.wait().await.unwrap()
    }
}

impl Drop for Sandbox {
    /// A change of user takes away what `--kill-child` relies on.
    fn drop(&mut self) {
        let Some(parent) = self.namespaces.id() else {
            return;
        };
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        if children.is_ok_and(|children| children.trim() == self.pid.to_string()) {
            // It may have ended by itself in this moment.
            self.signal("KILL");
        }
    }
}

pub struct Client {
    pub agent: AgentClient<Channel>,
    pub files: FilesClient<Channel>,
    pub search: SearchClient<Channel>,
    connect: Child,
}

/// One call of `Exec`.
pub struct Call {
    inputs: mpsc::UnboundedSender<ExecInput>,
    outputs: Streaming<ExecOutput>,
    received: [u64; 2],
    acknowledged: [u64; 2],
    /// Whether output is acknowledged as it comes.
    pub acknowledges: bool,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub exit: Exit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Outcome {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn err(&self) -> &str {
        std::str::from_utf8(&self.stderr).unwrap()
    }
}

pub fn script(id: &str, text: impl Into<Vec<u8>>) -> Start {
    let program = Some(Program::Script(text.into().into()));
    Start {
        id: id.into(),
        program,
        ..Start::default()
    }
}

pub fn argv(id: &str, args: &[&str]) -> Start {
    let args = args.iter().map(ToString::to_string).collect();
    Start {
        id: id.into(),
        program: Some(Program::Argv(Argv { args })),
        ..Start::default()
    }
}

pub fn env(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

pub fn attach(id: &str, offsets: [u64; 2]) -> Input {
    Input::Attach(Attach {
        id: id.into(),
        stdout_offset: offsets[0],
        stderr_offset: offsets[1],
    })
}

impl Client {
    pub async fn call(&self, first: Input) -> Result<Call, Status> {
        let (inputs, receiver) = mpsc::unbounded_channel();
        inputs.send(ExecInput { input: Some(first) }).unwrap();
        let request = UnboundedReceiverStream::new(receiver);
        let outputs = self.agent.clone().exec(request).await?.into_inner();
        let [received, acknowledged] = [[0; 2]; 2];
        Ok(Call {
            inputs,
            outputs,
            received,
            acknowledged,
            acknowledges: true,
        })
    }

    pub async fn start(&self, start: Start) -> Call {
        self.call(Input::Start(start)).await.unwrap()
    }

    pub async fn attach(&self, id: &str, offsets: [u64; 2]) -> Call {
        let mut call = self.call(attach(id, offsets)).await.unwrap();
        call.received = offsets;
        call.acknowledged = offsets;
        call
    }

    /// Runs to the end.
    pub async fn run(&self, start: Start) -> Outcome {
        self.start(start).await.finish().await.unwrap()
    }

    pub async fn sh(&self, text: &str) -> Outcome {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("sh-{}", NUMBER.fetch_add(1, Relaxed));
        self.run(script(&id, text)).await
    }

    /// What a script prints that succeeds in that folder.
    pub async fn sh_in(&self, folder: &Path, text: &str) -> String {
        let folder = folder.display();
        let outcome = self.sh(&format!("cd '{folder}' && {{ {text}\n}}")).await;
        assert_eq!(outcome.exit.code, 0, "{text}: {}", outcome.err());
        outcome.out().into()
    }

    pub async fn refused(&self, first: Input) -> Code {
        self.call(first)
            .await
            .err()
            .expect("the call should have failed")
            .code()
    }

    pub async fn activity(&self) -> ActivityReply {
        self.agent
            .clone()
            .activity(ActivityRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    /// Cuts the channel, as a lost network does.
    pub async fn cut(mut self) {
        self.connect.kill().await.unwrap();
    }
}

impl Call {
    pub fn send(&self, input: Input) {
        self.inputs.send(ExecInput { input: Some(input) }).unwrap();
    }

    pub fn stdin(&self, bytes: &[u8]) {
        for piece in bytes.chunks(limits::CHUNK) {
            self.send(Input::Stdin(piece.to_vec().into()));
        }
    }

    pub fn stdin_end(&self) {
        self.send(Input::StdinEnd(StdinEnd {}));
    }

    pub fn offsets(&self) -> [u64; 2] {
        self.received
    }

    pub fn acknowledge(&mut self) {
        self.acknowledged = self.received;
        self.tell(false);
    }

    /// Says what has arrived; the exit, too, or not.
    fn tell(&self, exit: bool) {
        self.send(Input::Ack(Ack {
            stdout: self.received[0],
            stderr: self.received[1],
            exit,
        }));
    }

    /// The next output; none after the exit.
    pub async fn next(&mut self) -> Result<Option<Output>, Status> {
        let Some(message) = self.outputs.message().await? else {
            return Ok(None);
        };
        let output = message.output.unwrap();
        match &output {
            Output::Stdout(bytes) => self.received[0] += bytes.len() as u64,
            Output::Stderr(bytes) => self.received[1] += bytes.len() as u64,
            Output::Exit(_) => {}
        }
        let new: u64 = self.received.iter().sum::<u64>() - self.acknowledged.iter().sum::<u64>();
        if self.acknowledges && new >= limits::ACK_EVERY {
            self.acknowledge();
        }
        Ok(Some(output))
    }

    /// Reads until standard output has had `text` in it.
    pub async fn until(&mut self, text: &str) -> Vec<u8> {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            match self.next().await.unwrap() {
                Some(Output::Stdout(bytes)) => seen.extend_from_slice(&bytes),
                other => panic!("{other:?} instead of {text:?}"),
            }
        }
        seen
    }

    pub async fn finish(self) -> Result<Outcome, Status> {
        let mut outcome = Outcome::default();
        self.each(|output| match output {
            Output::Stdout(bytes) => outcome.stdout.extend_from_slice(&bytes),
            Output::Stderr(bytes) => outcome.stderr.extend_from_slice(&bytes),
            Output::Exit(exit) => outcome.exit = exit,
        })
        .await?;
        Ok(outcome)
    }

    pub async fn each(mut self, mut take: impl FnMut(Output)) -> Result<(), Status> {
        let mut last = None;
        while let Some(output) = self.next().await? {
            assert!(
                !matches!(last, Some(Output::Exit(_))),
                "output after the exit"
            );
            last = Some(output.clone());
            take(output);
        }
        assert!(matches!(last, Some(Output::Exit(_))), "the exit is missing");
        self.tell(true);
        Ok(())
    }
}
