//! Follows one execution from its start to its result, then drains its pipes. There is
//! one task per execution.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hutch_wire::v1::Exit;
use rustix::process::{Signal, kill_process};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::collect::{collect, drain};
use super::{Execution, Executions, Source};
use crate::process::{Ended, Pid, tree};

/// Longest wait for a killed process to end. A process that hangs in the kernel (for
/// example on a dead file system) never ends and must not block its call.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for a process to exit after its shell has reported the end of the
/// command.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit code of a command that exceeded its timeout, as in `timeout(1)`.
const TIMED_OUT_EXIT_CODE: i32 = 124;

/// The inputs of the task.
#[derive(Debug)]
pub struct Course {
    pub execution: Arc<Execution>,
    /// Where the end of the execution is recorded.
    pub executions: Arc<Executions>,
    /// The main process.
    pub main: Pid,
    /// Resolves when the main process ends.
    pub ended: oneshot::Receiver<Ended>,
    /// Its output.
    pub stdout: Receiver,
    /// Its error output.
    pub stderr: Receiver,
    /// The process's standard input, if the client feeds it.
    pub stdin: Option<Sender>,
    /// When it was started.
    pub begun: Instant,
    /// The timeout; zero means none.
    pub timeout: Duration,
    /// Ends the command early.
    pub stop: Option<oneshot::Receiver<()>>,
    /// Resolves with the exit code when the command is over but its process has not
    /// exited yet. Pending for ever if the shell cannot report that.
    pub early: Option<Early>,
    /// Runs after the end of the command and before the client gets the result.
    pub settle: Option<Settle>,
}

/// Reports that a command is over before its process has ended.
pub struct Early(pub Pin<Box<dyn Future<Output = i32> + Send>>);

impl std::fmt::Debug for Early {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Early")
    }
}

/// A callback that gets the ended execution and may change its exit before the client
/// sees it.
pub struct Settle(pub Box<SettleWith>);

/// The function in a [`Settle`].
type SettleWith = dyn FnOnce(&Execution, &mut Exit) + Send;

impl std::fmt::Debug for Settle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Settle")
    }
}

/// Follows an execution to its end, then drains its pipes.
pub async fn follow(course: Course) {
    let Course {
        execution,
        executions,
        main,
        mut ended,
        stdout,
        stderr,
        stdin,
        stop,
        early,
        settle,
        ..
    } = course;
    let end = async {
        let over = over(&mut ended, early);
        let mut exit = end(main, over, course.timeout, stop).await;
        let duration = course.begun.elapsed().as_micros();
        exit.duration_us = u64::try_from(duration).unwrap_or(u64::MAX);
        execution.process_ended();
        exit
    };
    let run = async {
        let out = collect(&execution, Source::Stdout, &stdout);
        let err = collect(&execution, Source::Stderr, &stderr);
        tokio::join!(end, out, err).0
    };
    let mut exit = tokio::select! {
        biased;
        exit = run => exit,
        never = feed(&execution, stdin) => match never {},
    };
    if let Some(Settle(settle)) = settle {
        settle(&execution, &mut exit);
    }
    execution.complete(exit);
    executions.ended(&execution);
    drop((execution, executions));
    tokio::join!(leave(main, ended), drain(stdout), drain(stderr));
}

/// Kills the process if it does not exit after its shell has reported the end: the
/// report may be forged.
async fn leave(main: Pid, mut ended: oneshot::Receiver<Ended>) {
    if ended.is_terminated() {
        return;
    }
    if let Err(_) | Ok(Ok(Ended::Stopped(_))) = timeout(EXIT_TIMEOUT, &mut ended).await {
        let _ = kill_process(main, Signal::KILL);
    }
}

/// Resolves with the end of the process or with the shell's earlier report of it.
async fn over(ended: &mut oneshot::Receiver<Ended>, early: Option<Early>) -> Ended {
    let early = async {
        match early {
            Some(Early(early)) => early.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = ended => ended.unwrap_or(Ended::Killed(libc::SIGKILL)),
        code = early => Ended::Exited(code),
    }
}

/// Feeds standard input until it ends or its client has been away for longer than the
/// grace period.
async fn feed(execution: &Execution, pipe: Option<Sender>) -> std::convert::Infallible {
    if let (Some(stdin), Some(pipe)) = (&execution.stdin, pipe) {
        tokio::select! {
            () = stdin.feed(pipe) => {}
            () = execution.given_up() => stdin.close(),
        }
    }
    std::future::pending().await
}

/// Waits for the end of the command, or kills the command on stop or timeout.
async fn end(
    main: Pid,
    over: impl Future<Output = Ended>,
    limit: Duration,
    stop: Option<oneshot::Receiver<()>>,
) -> Exit {
    tokio::pin!(over);
    let limit = if limit.is_zero() {
        Duration::MAX
    } else {
        limit
    };
    let by_itself = tokio::select! {
        biased;
        by_itself = timeout(limit, &mut over) => by_itself,
        () = stopped(stop) => {
            tree::kill(main);
            let _ = timeout(KILL_TIMEOUT, over).await;
            return exit(Ended::Killed(libc::SIGKILL));
        }
    };
    match by_itself {
        Ok(ended) => {
            if let Ended::Stopped(_) = ended {
                tree::kill(main);
            }
            exit(ended)
        }
        Err(_) => {
            tree::kill(main);
            let signal = match timeout(KILL_TIMEOUT, over).await {
                Ok(Ended::Exited(_)) => 0,
                _ => libc::SIGKILL,
            };
            Exit {
                code: TIMED_OUT_EXIT_CODE,
                signal,
                timed_out: true,
                ..Exit::default()
            }
        }
    }
}

/// Resolves on a stop request. Pending for ever if none can come any more.
async fn stopped(stop: Option<oneshot::Receiver<()>>) {
    if let Some(stop) = stop
        && stop.await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Exited(code) => Exit {
            code,
            ..Exit::default()
        },
        Ended::Killed(signal) | Ended::Stopped(signal) => Exit {
            code: 128 + signal,
            signal,
            ..Exit::default()
        },
    }
}
