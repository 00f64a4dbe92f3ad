//! One command from start to end, over channels that may be lost.
//!
//! The start is sent once. After a loss, the facade attaches to the execution again
//! and sends the number of bytes that it has. It bounds the agent's output and ignores
//! unrequested messages.

use std::time::Duration;

use bytes::BytesMut;
use hutch_wire::limits::ACK_EVERY;
use hutch_wire::v1::exec_input::Input;
use hutch_wire::v1::exec_output::Output;
use hutch_wire::v1::start::Program as WireProgram;
use hutch_wire::v1::{Ack, Argv, Attach, ExecInput, ExecOutput, Exit, Start};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use super::agent::Agent;
use super::call::{MAX_TEXT_CHARS, append_within, refusal};
use hutch_core::agent::AgentError;
use hutch_core::exec::{ExecOutcome, ExecRequest, Program, SessionOutcome};

/// The state of an execution: its output so far, and the number of bytes received.
pub struct Execution {
    id: String,
    in_session: bool,
    limit: u64,
    stdout: BytesMut,
    stderr: BytesMut,
    received: Ack,
    /// Bytes of stdout and stderr that the agent knows we have.
    acknowledged: u64,
}

/// The reason why collecting stopped before the exit.
pub enum Interrupted {
    /// The channel broke. Attach again.
    Channel(String),
    /// The agent no longer has the execution, or not the bytes that we need next.
    Gone(String),
}

/// The start message of an execution with a new ID, and its empty state.
pub fn begin(request: ExecRequest) -> (ExecInput, Execution) {
    let id = uuid::Uuid::new_v4().to_string();
    let program = match request.program {
        Program::Argv(args) => WireProgram::Argv(Argv { args }),
        Program::Script(script) => WireProgram::Script(script),
    };
    let timeout = request.timeout.unwrap_or(Duration::ZERO);
    let start = Start {
        id: id.clone(),
        program: Some(program),
        cwd: request.cwd.unwrap_or_default(),
        env: request.env.into_iter().collect(),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        output_limit: request.output_limit,
        stdin: false,
        session: request.session.unwrap_or_default(),
    };
    let execution = Execution {
        in_session: !start.session.is_empty(),
        id,
        limit: request.output_limit,
        stdout: BytesMut::new(),
        stderr: BytesMut::new(),
        received: Ack::default(),
        acknowledged: 0,
    };
    (input(Input::Start(start)), execution)
}

impl Execution {
    /// The error for the caller if the agent refused the start; `None` if the channel
    /// broke. In that case the start may or may not have arrived.
    pub fn refusal(&self, status: &Status) -> Option<AgentError> {
        match refusal(status)? {
            error @ AgentError::Invalid(_) => Some(error),
            // The session's queue is full, or there are too many sessions.
            error @ AgentError::Full(_) if self.in_session => Some(error),
            error => Some(AgentError::CannotStart(error.to_string())),
        }
    }

    /// The message that continues this execution on a new channel.
    pub fn attach(&self) -> ExecInput {
        input(Input::Attach(Attach {
            id: self.id.clone(),
            stdout_offset: self.received.stdout,
            stderr_offset: self.received.stderr,
        }))
    }

    /// Receives output until the exit.
    pub async fn collect(
        &mut self,
        agent: &Agent,
        inputs: &mpsc::Sender<ExecInput>,
        mut outputs: Streaming<ExecOutput>,
    ) -> Result<Exit, Interrupted> {
        loop {
            let output = match outputs.message().await {
                Ok(Some(ExecOutput { output })) => output,
                Ok(None) => return Err(Interrupted::Channel(agent.why_closed())),
                Err(status) => return Err(interrupted(agent, &status)),
            };
            match output {
                Some(Output::Stdout(data)) => {
                    append_within(&mut self.stdout, &data, self.limit);
                    self.received.stdout += data.len() as u64;
                }
                Some(Output::Stderr(data)) => {
                    append_within(&mut self.stderr, &data, self.limit);
                    self.received.stderr += data.len() as u64;
                }
                Some(Output::Exit(exit)) => {
                    let seen = Ack {
                        exit: true,
                        ..self.received
                    };
                    // If this is lost, the agent forgets the execution after a while.
                    let _ = inputs.try_send(input(Input::Ack(seen)));
                    return Ok(exit);
                }
                None => {}
            }
            self.acknowledge(inputs).await;
        }
    }

    async fn acknowledge(&mut self, inputs: &mpsc::Sender<ExecInput>) {
        let received = self.received.stdout + self.received.stderr;
        if received - self.acknowledged >= ACK_EVERY {
            self.acknowledged = received;
            // A closed queue means a lost channel. The next receive reports that.
            let _ = inputs.send(input(Input::Ack(self.received))).await;
        }
    }

    /// The outcome after the exit.
    pub fn outcome(self, exit: &Exit) -> ExecOutcome {
        ExecOutcome {
            exit_code: exit.code,
            timed_out: exit.timed_out,
            truncated: exit.stdout_truncated || exit.stderr_truncated,
            stdout: self.stdout.freeze(),
            stderr: self.stderr.freeze(),
            duration: Duration::from_micros(exit.duration_us),
            session: SessionOutcome {
                created: exit.session_created,
                reset: exit.session_reset,
                closed: exit.session_closed,
            },
        }
    }
}

/// The meaning of an error on an execution whose start was sent.
pub fn interrupted(agent: &Agent, status: &Status) -> Interrupted {
    match status.code() {
        Code::NotFound | Code::OutOfRange | Code::Aborted => {
            Interrupted::Gone(status.message().chars().take(MAX_TEXT_CHARS).collect())
        }
        _ if agent.is_open() => Interrupted::Channel(status.message().to_owned()),
        _ => Interrupted::Channel(agent.why_closed()),
    }
}

fn input(input: Input) -> ExecInput {
    ExecInput { input: Some(input) }
}
