//! A client of the agent in a sandbox, and its calls of `Exec`.

use std::collections::HashMap;
use std::path::Path;
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
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::wait::in_time;

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
        let awaited = format!("standard output has {text:?}");
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            match in_time(&awaited, self.next()).await.unwrap() {
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
