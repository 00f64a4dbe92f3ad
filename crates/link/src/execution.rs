//! One command from start to end over channels that may be lost on the way.
//! A start is sent once. After a loss the execution is attached to again, with
//! the number of bytes that have arrived; what the agent says is bounded and
//! nothing that was not asked for is believed.

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
use super::call::{keep, refusal};
use hutch_core::agent::AgentError;
use hutch_core::exec::{ExecOutcome, ExecRequest, Program, SessionOutcome};

/// What has arrived of an execution so far.
pub struct Execution {
    id: String,
    in_session: bool,
    limit: u64,
    stdout: BytesMut,
    stderr: BytesMut,
    received: Ack,
    acknowledged: u64,
}

/// Why collecting stopped before the exit.
pub enum Interrupted {
    /// The channel broke: attach again.
    Channel(String),
    /// The agent does not know the execution, or not these bytes, any more.
    Gone(String),
}

/// The start of an execution with a fresh id, and the state to collect it in.
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
    /// What the agent's refusal of the start means to the caller; `None` where
    /// the channel broke and the start may or may not have arrived.
    pub fn refusal(&self, status: &Status) -> Option<AgentError> {
        match refusal(status)? {
            error @ AgentError::Invalid(_) => Some(error),
            // Too many commands wait, or there are too many sessions.
            error @ AgentError::Full(_) if self.in_session => Some(error),
            error => Some(AgentError::CannotStart(error.to_string())),
        }
    }

    /// The input that continues this execution on a new channel.
    pub fn attach(&self) -> ExecInput {
        input(Input::Attach(Attach {
            id: self.id.clone(),
            stdout_offset: self.received.stdout,
            stderr_offset: self.received.stderr,
        }))
    }

    /// Receives until the exit.
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
                    keep(&mut self.stdout, &data, self.limit);
                    self.received.stdout += data.len() as u64;
                }
                Some(Output::Stderr(data)) => {
                    keep(&mut self.stderr, &data, self.limit);
                    self.received.stderr += data.len() as u64;
                }
                Some(Output::Exit(exit)) => {
                    let seen = Ack {
                        exit: true,
                        ..self.received
                    };
                    // What the agent is not told it forgets in a while.
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
            // A closed queue is a lost channel, which the next receive reports.
            let _ = inputs.send(input(Input::Ack(self.received))).await;
        }
    }

    /// The outcome, once the exit has come.
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

/// What a failed call on an execution that has been handed over means.
pub fn interrupted(agent: &Agent, status: &Status) -> Interrupted {
    match status.code() {
        Code::NotFound | Code::OutOfRange | Code::Aborted => {
            Interrupted::Gone(status.message().chars().take(1024).collect())
        }
        _ if agent.is_open() => Interrupted::Channel(status.message().to_owned()),
        _ => Interrupted::Channel(agent.why_closed()),
    }
}

fn input(input: Input) -> ExecInput {
    ExecInput { input: Some(input) }
}
