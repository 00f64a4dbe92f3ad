//! A client of the agent in a sandbox, and its calls of `Exec`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

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
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::wait::{WAIT_TIMEOUT, in_time, next_message, within_limit};

/// Limit of a whole execution. The largest of them has 64 MiB of output.
const EXECUTION_TIMEOUT: Duration = WAIT_TIMEOUT.saturating_mul(4);

pub struct Client {
    pub agent: AgentClient<Channel>,
    pub files: FilesClient<Channel>,
    pub search: SearchClient<Channel>,
    pub(super) connect: Child,
}

/// One call of `Exec`.
pub struct Call {
    inputs: mpsc::UnboundedSender<ExecInput>,
    outputs: Streaming<ExecOutput>,
    received: [u64; 2],
    acknowledged: [u64; 2],
    /// True if output is acknowledged as it comes.
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
        let mut agent = self.agent.clone();
        let reply = in_time("the agent answers a call of Exec", agent.exec(request));
        let outputs = reply.await?.into_inner();
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

    /// Runs a command to its end.
    pub async fn run(&self, start: Start) -> Outcome {
        self.start(start).await.finish().await.unwrap()
    }

    pub async fn sh(&self, text: &str) -> Outcome {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("sh-{}", NUMBER.fetch_add(1, Relaxed));
        self.run(script(&id, text)).await
    }

    /// Runs a script in a directory. It has to succeed; returns its standard output.
    pub async fn sh_in(&self, directory: &Path, text: &str) -> String {
        let directory = directory.display();
        let outcome = self.sh(&format!("cd '{directory}' && {{ {text}\n}}")).await;
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
        self.send_ack(false);
    }

    /// Acknowledges the output that has arrived, and the exit if `exit` is true.
    fn send_ack(&self, exit: bool) {
        self.send(Input::Ack(Ack {
            stdout: self.received[0],
            stderr: self.received[1],
            exit,
        }));
    }

    /// Returns the next output; `None` after the exit.
    pub async fn next(&mut self) -> Result<Option<Output>, Status> {
        let Some(message) = next_message(&mut self.outputs).await? else {
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

    /// Reads standard output until it contains `text`.
    pub async fn until(&mut self, text: &str) -> Vec<u8> {
        let awaited = format!("standard output has {text:?}");
        let mut seen = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&seen).contains(text) {
                match self.next().await.unwrap() {
                    Some(Output::Stdout(bytes)) => seen.extend_from_slice(&bytes),
                    other => panic!("{other:?} instead of {text:?}"),
                }
            }
        };
        in_time(&awaited, reading).await;
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
        let reading = async {
            while let Some(output) = self.next().await? {
                assert!(
                    !matches!(last, Some(Output::Exit(_))),
                    "output after the exit"
                );
                last = Some(output.clone());
                take(output);
            }
            Ok::<_, Status>(())
        };
        within_limit(EXECUTION_TIMEOUT, "the execution ends", reading).await?;
        assert!(matches!(last, Some(Output::Exit(_))), "the exit is missing");
        self.send_ack(true);
        Ok(())
    }
}
