//! One execution: a command from its start until its result is fetched.
//!
//! The execution belongs to the agent; clients come and go. `stream` sends the output
//! to the attached client and `inputs` handles its messages. `collect` reads the
//! process's output into the windows (`window` holds the output limits) and `course`
//! follows the process to its end. All of them share [`Execution`], which does no I/O
//! itself. [`Executions`] finds them by id; `shell_pool`, `idle_shell` and
//! `fork_server` start shells ahead.

mod collect;
mod course;
mod fork_server;
mod idle_shell;
mod inputs;
mod registry;
mod request;
mod shell_pool;
mod start;
mod stdin;
mod stream;
mod window;

use std::task::Waker;
use std::time::Duration;

use hutch_wire::v1::Exit;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

pub use course::{Course, Early, Settle, follow};
pub use idle_shell::{IdleShell, IdleShellSpec};
pub use inputs::listen;
pub use registry::Executions;
pub use request::{Checked, check, check_environment};
pub use shell_pool::{FILES, GO, LINE, SESSION, ShellPool, WAIT, WITHHELD};
pub use start::{Started, Starter, exhausted};
pub use stream::Stream;

use crate::lock::Lock;
use stdin::Stdin;
use window::Window;

/// How long a command waits for an absent client. After that its output is dropped and
/// its input ends.
const CLIENT_GRACE: Duration = Duration::from_secs(30);

/// How long the response's headers wait for the result, so that a short command's
/// answer is sent in one piece.
const FIRST_REPLY_DELAY: Duration = Duration::from_millis(4);

/// Which output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A command that runs, or has run.
#[derive(Debug)]
pub struct Execution {
    id: String,
    stdin: Option<Stdin>,
    state: Lock<State>,
    /// Wakes the collector of each stream (indexed by [`Source`]).
    collectors: [Notify; 2],
    /// Wakes the task that waits for the client's absence.
    client_moved: Notify,
    /// Wakes the task that waits for the result.
    news: Notify,
}

#[derive(Debug)]
struct State {
    windows: [Window; 2],
    /// The main process has ended; the pipes may still hold output.
    process_ended: bool,
    exit: Option<Exit>,
    client: Client,
}

/// The attached client. A new client replaces the old one and gets a new number.
#[derive(Debug, Default)]
struct Client {
    number: u64,
    waker: Option<Waker>,
    gone: Option<Instant>,
    fault: Option<Status>,
    /// True once the exit was handed to the client's stream.
    told: bool,
}

impl Client {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The next step of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// Read at most this many bytes.
    Read(usize),
    /// Wait to be woken, at the latest until this time.
    Wait(Option<Instant>),
}

impl Execution {
    /// Creates an execution that has not begun.
    pub fn new(id: String, stdin: bool, output_limit: u64) -> Self {
        let state = State {
            windows: [Window::new(output_limit), Window::new(output_limit)],
            process_ended: false,
            exit: None,
            client: Client::default(),
        };
        Self {
            id,
            stdin: stdin.then(Stdin::default),
            state: Lock::new(state),
            collectors: Default::default(),
            client_moved: Notify::new(),
            news: Notify::new(),
        }
    }

    /// The id its client chose.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Attaches a client that already has `offsets` bytes of the streams; an earlier
    /// client is disconnected. Returns the client's number.
    ///
    /// # Errors
    /// OUT_OF_RANGE if the output at these offsets is no longer kept.
    pub fn attach(&self, offsets: [u64; 2]) -> Result<u64, Status> {
        let mut state = self.state.lock();
        let reachable = state
            .windows
            .iter()
            .zip(offsets)
            .all(|(window, offset)| window.reaches(offset));
        if !reachable {
            return Err(Status::out_of_range(
                "the output at these offsets is not kept any more",
            ));
        }
        for (window, offset) in state.windows.iter_mut().zip(offsets) {
            window.resume(offset);
        }
        state.client.wake();
        state.client = Client {
            number: state.client.number + 1,
            ..Client::default()
        };
        self.client_changed();
        Ok(state.client.number)
    }

    /// Detaches client `number`.
    fn detach(&self, number: u64) {
        let mut state = self.state.lock();
        if state.client.number == number {
            state.client.gone = Some(Instant::now());
            state.client.waker = None;
            self.client_changed();
        }
    }

    fn client_changed(&self) {
        self.client_moved.notify_one();
        self.collectors.iter().for_each(Notify::notify_one);
    }

    /// Drops the output that client `number` has acknowledged.
    fn acknowledge(&self, number: u64, offsets: [u64; 2]) {
        let mut state = self.state.lock();
        if state.client.number != number {
            return;
        }
        for (window, offset) in state.windows.iter_mut().zip(offsets) {
            window.acknowledge(offset);
        }
        self.collectors.iter().for_each(Notify::notify_one);
    }

    /// True if the exit was sent to client `number`.
    fn told(&self, number: u64) -> bool {
        let client = &self.state.lock().client;
        client.told && client.number == number
    }

    /// Ends the stream of client `number` with an error; the command continues.
    fn fail_client(&self, number: u64, fault: Status) {
        let mut state = self.state.lock();
        if state.client.number == number {
            state.client.fault = Some(fault);
            state.client.wake();
        }
    }

    fn intake(&self, source: Source) -> Intake {
        let mut state = self.state.lock();
        let given_up = state.client.gone.map(|gone| gone + CLIENT_GRACE);
        let window = &mut state.windows[source as usize];
        let mut room = window.room();
        if room == 0 && given_up.is_some_and(|moment| moment <= Instant::now()) {
            window.close();
            room = window.room();
        }
        if let Some(stdin) = &self.stdin {
            stdin.stall(state.windows.iter().any(|window| window.room() == 0));
        }
        if room == 0 {
            Intake::Wait(given_up)
        } else {
            Intake::Read(room)
        }
    }

    /// Appends output to one stream.
    pub fn add_output(&self, source: Source, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.windows[source as usize].push(bytes);
        state.client.wake();
    }

    fn process_has_ended(&self) -> bool {
        self.state.lock().process_ended
    }

    /// Records that the process has ended, or that there will be none.
    pub fn process_ended(&self) {
        self.state.lock().process_ended = true;
        self.collectors.iter().for_each(Notify::notify_one);
        if let Some(stdin) = &self.stdin {
            stdin.close();
        }
    }

    /// Sets the result, after all output was collected.
    pub fn complete(&self, mut exit: Exit) {
        let mut state = self.state.lock();
        exit.stdout_truncated = state.windows[Source::Stdout as usize].truncated();
        exit.stderr_truncated = state.windows[Source::Stderr as usize].truncated();
        state.exit = Some(exit);
        state.client.wake();
        self.news.notify_one();
    }

    /// Resolves with the result, or a few milliseconds after the start: the output of a
    /// short command is then sent together with the response's headers.
    pub async fn first_word(&self) {
        let result = async {
            while !self.is_complete() {
                self.news.notified().await;
            }
        };
        let _ = tokio::time::timeout(FIRST_REPLY_DELAY, result).await;
    }

    fn is_complete(&self) -> bool {
        self.state.lock().exit.is_some()
    }

    /// Bytes of output in memory.
    fn size(&self) -> usize {
        self.state.lock().windows.iter().map(Window::size).sum()
    }

    /// Resolves when no client was attached for the whole grace period.
    async fn given_up(&self) {
        loop {
            let gone = self.state.lock().client.gone;
            match gone.map(|gone| gone + CLIENT_GRACE) {
                None => self.client_moved.notified().await,
                Some(moment) if moment <= Instant::now() => return,
                Some(moment) => {
                    let _ = tokio::time::timeout_at(moment, self.client_moved.notified()).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Execution {
        let execution = Execution::new("a".into(), true, 0);
        execution.attach([0, 0]).unwrap();
        execution.add_output(Source::Stdout, &vec![0; hutch_wire::limits::WINDOW]);
        execution
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stays_away_loses_output_and_holds_nobody() {
        let execution = full();
        assert_eq!(execution.intake(Source::Stdout), Intake::Wait(None));
        execution.detach(1);
        assert!(matches!(
            execution.intake(Source::Stdout),
            Intake::Wait(Some(_))
        ));
        execution.given_up().await;
        assert_eq!(execution.intake(Source::Stdout), Intake::Read(usize::MAX));
        execution.add_output(Source::Stdout, b"lost");
        execution.attach([0, 0]).unwrap();
        execution.complete(Exit::default());
        let exit = execution.state.lock().exit.unwrap();
        assert!(exit.stdout_truncated && !exit.stderr_truncated);
        assert_eq!(execution.size(), hutch_wire::limits::WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_comes_back_in_time_loses_nothing() {
        let execution = full();
        execution.detach(1);
        tokio::time::advance(CLIENT_GRACE / 2).await;
        let number = execution.attach([0, 0]).unwrap();
        tokio::time::advance(CLIENT_GRACE).await;
        assert_eq!(execution.intake(Source::Stdout), Intake::Wait(None));
        execution.acknowledge(1, [u64::MAX, 0]);
        assert_eq!(
            execution.intake(Source::Stdout),
            Intake::Wait(None),
            "of an earlier client"
        );
        while execution.state.lock().windows[0].take().is_some() {}
        execution.acknowledge(number, [5, 0]);
        assert_eq!(execution.intake(Source::Stdout), Intake::Read(5));
    }
}
