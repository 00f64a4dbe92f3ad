//! Runs one command of a session: waits for its turn, runs it, saves the value and
//! prepares the next shell.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hutch_wire::v1::{Exit, Start};
use tokio::time::Instant;
use tonic::Status;

use super::dump::{Dump, word};
use super::queue::Turn;
use super::shell::{PreparedShell, RunningShell};
use super::text::Before;
use super::{Session, Sessions, text};
use crate::execution::{Checked, Course, Early, Execution, Settle, Source, check, follow};

/// Exit code of a command that could not be started.
const NOT_STARTED: i32 = 126;
/// Exit code of a command whose session was closed before its turn: that of a killed
/// command.
const CLOSED: i32 = 128 + libc::SIGKILL;

/// The exit of a command whose session was closed before its turn.
fn closed(created: bool) -> Exit {
    Exit {
        code: CLOSED,
        signal: libc::SIGKILL,
        session_closed: true,
        session_created: created,
        ..Exit::default()
    }
}

/// A command that waits for its turn.
struct Job {
    session: Arc<Session>,
    created: bool,
    execution: Arc<Execution>,
    script: Bytes,
    cwd: Vec<u8>,
    env: HashMap<String, String>,
    timeout: Duration,
    stdin: bool,
}

impl Sessions {
    /// Accepts a command for the session that it names.
    ///
    /// # Errors
    /// As in the protocol; then nothing was started and nothing will be.
    pub fn start(self: &Arc<Self>, mut start: Start) -> Result<Arc<Execution>, Status> {
        let (program, cwd) = check(&mut start)?;
        let Checked::Script(script) = program else {
            let text = "start: a session runs scripts, not argv";
            return Err(Status::invalid_argument(text));
        };
        let executions = &self.starter.executions;
        if executions.find(&start.id).is_some() {
            return Err(Status::already_exists("an execution of this id is known"));
        }
        self.able()?;
        let (session, created) = self.find_or_make(&start.session)?;
        let place = session.queue.join()?;
        let limit = start.output_limit;
        let execution = Arc::new(Execution::new(start.id, start.stdin, limit));
        executions.add(&execution);
        session.touch();
        let job = Job {
            session,
            created,
            execution: Arc::clone(&execution),
            script,
            cwd: cwd.into_bytes(),
            env: start.env,
            timeout: Duration::from_millis(start.timeout_ms),
            stdin: start.stdin,
        };
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            let turn = place.turn().await;
            // The session may have been closed while the turn was being passed.
            match turn.filter(|_| !job.session.queue.closed()) {
                Some(turn) => sessions.run(job, turn).await,
                None => sessions.end_without_process(&job.execution, closed(job.created)),
            }
        });
        Ok(execution)
    }

    async fn run(self: Arc<Self>, job: Job, turn: Turn) {
        let begun = Instant::now();
        let (running, lost) = match self.shell(&job) {
            Ok(shell) => shell,
            Err(problem) => {
                let line = format!("{}\n", problem.message());
                job.execution.add_output(Source::Stderr, line.as_bytes());
                let exit = Exit {
                    code: NOT_STARTED,
                    session_created: job.created,
                    ..Exit::default()
                };
                return self.end_without_process(&job.execution, exit);
            }
        };
        let stop = turn.stop();
        let own_directory = !job.cwd.is_empty();
        let before = Arc::new(Before {
            hidden: text::hidden(&job.cwd, &job.env),
            value: running.value,
            baseline: Arc::clone(&self.baseline),
        });
        let (dump, started) = (Arc::new(running.dump), running.started);
        let early = word(running.line, Arc::clone(&dump), Arc::clone(&before));
        let sessions = Arc::clone(&self);
        let session = job.session;
        let settle = move |execution: &Execution, exit: &mut Exit| {
            exit.session_created = job.created;
            exit.session_reset = lost;
            sessions.settle(&session, &dump, &before, own_directory, execution, exit);
            drop(turn);
            sessions.ready(session);
        };
        follow(Course {
            executions: Arc::clone(&self.starter.executions),
            execution: job.execution,
            main: started.main,
            ended: started.ended,
            stdout: started.stdout,
            stderr: started.stderr,
            stdin: started.stdin,
            begun,
            timeout: job.timeout,
            stop: Some(stop),
            early: Some(Early(Box::pin(early))),
            settle: Some(Settle(Box::new(settle))),
        })
        .await;
    }

    fn end_without_process(&self, execution: &Arc<Execution>, exit: Exit) {
        execution.process_ended();
        execution.complete(exit);
        self.starter.executions.ended(execution);
    }

    /// Gives the command to a shell. The flag is true if the session's value was lost.
    fn shell(&self, job: &Job) -> Result<(RunningShell, bool), Status> {
        let ready = job.session.state.lock().waiting.take();
        let ready = ready.filter(|_| !job.stdin);
        let (waiting, lost) = match ready.and_then(|mut ready| ready.lives().then_some(ready)) {
            Some(ready) => (ready, false),
            None => self.begin(&job.session, job.stdin)?,
        };
        let last = text::last(&waiting.value, &job.cwd, &job.env);
        let command = text::command(&waiting.value, &job.script);
        let running = waiting
            .go(&last, &command)
            .map_err(crate::execution::exhausted)?;
        Ok((running, lost))
    }

    /// Prepares a shell for the session.
    pub(super) fn begin(
        &self,
        session: &Session,
        with_stdin: bool,
    ) -> Result<(PreparedShell, bool), Status> {
        let (store, _) = self.able()?;
        let (value, lost) = self.value(session)?;
        if session.state.lock().written.is_none() {
            let _ = store.prepare(&session.id);
        }
        let dump = Dump::new(&store.directory(&session.id), self.number(), &self.mark);
        let waiting = PreparedShell::start(&self.starter, value, dump, with_stdin)?;
        Ok((waiting, lost))
    }

    /// Saves the value that an ended command has left.
    fn settle(
        &self,
        session: &Session,
        dump: &Dump,
        before: &Before,
        own_directory: bool,
        execution: &Execution,
        exit: &mut Exit,
    ) {
        session.touch();
        if session.queue.closed() {
            exit.session_closed = true;
            return;
        }
        let Some(mut value) = dump.take(before) else {
            exit.session_reset = true;
            return;
        };
        if own_directory {
            value.cwd.clone_from(&before.value.cwd);
        }
        if let Err(problem) = self.save(session, &value) {
            let line = format!("{}; it stays as it was\n", problem.message());
            execution.add_output(Source::Stderr, line.as_bytes());
            exit.session_reset = true;
        }
    }
}
