//! An execution from its start to its result, and the draining of its pipes
//! after that. One task per execution.

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

/// How long a killed process may take to go. One that hangs in the kernel, on a
/// dead file system, never does, and must not hold its call.
const DYING: Duration = Duration::from_secs(2);

/// How long a process may stay whose command is over by its own word.
const LEAVING: Duration = Duration::from_secs(1);

/// Exit code of a command that passed its time limit, as of `timeout(1)`.
const TIMED_OUT: i32 = 124;

/// What the task needs.
#[derive(Debug)]
pub struct Course {
    /// The execution it is about.
    pub execution: Arc<Execution>,
    /// Where its end is made known.
    pub executions: Arc<Executions>,
    /// The main process.
    pub main: Pid,
    /// Its end.
    pub ended: oneshot::Receiver<Ended>,
    /// Its output.
    pub stdout: Receiver,
    /// Its error output.
    pub stderr: Receiver,
    /// Its input, if the client feeds it.
    pub stdin: Option<Sender>,
    /// When it was started.
    pub begun: Instant,
    /// Its time limit; zero: none.
    pub timeout: Duration,
    /// Ends it before its time.
    pub stop: Option<oneshot::Receiver<()>>,
    /// Resolves with the exit code when the command is over and its process only
    /// has to go yet; pending for ever where that is not to be known.
    pub early: Option<Early>,
    /// What is to be done between its end and its answer.
    pub settle: Option<Settle>,
}

/// Tells that a command is over before its process has ended.
pub struct Early(pub Pin<Box<dyn Future<Output = i32> + Send>>);

impl std::fmt::Debug for Early {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Early")
    }
}

/// Sees an ended execution, and its exit, before the client does.
pub struct Settle(pub Box<SettleWith>);

/// What [`Settle`] calls.
type SettleWith = dyn FnOnce(&Execution, &mut Exit) + Send;

impl std::fmt::Debug for Settle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Settle")
    }
}

/// Follows an execution to its end, and its pipes beyond.
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

/// Sees that a process whose command is over goes: one that has said so and
/// stays has lied.
async fn leave(main: Pid, mut ended: oneshot::Receiver<Ended>) {
    if ended.is_terminated() {
        return;
    }
    if let Err(_) | Ok(Ok(Ended::Stopped(_))) = timeout(LEAVING, &mut ended).await {
        let _ = kill_process(main, Signal::KILL);
    }
}

/// The end of a command: its process's, or an earlier word of it.
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

/// Feeds standard input until it ends, or its client has been away for too
/// long.
async fn feed(execution: &Execution, pipe: Option<Sender>) -> std::convert::Infallible {
    if let (Some(stdin), Some(pipe)) = (&execution.stdin, pipe) {
        tokio::select! {
            () = stdin.feed(pipe) => {}
            () = execution.given_up() => stdin.close(),
        }
    }
    std::future::pending().await
}

/// Waits for the end of the command, or makes it.
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
            let _ = timeout(DYING, over).await;
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
            let signal = match timeout(DYING, over).await {
                Ok(Ended::Exited(_)) => 0,
                _ => libc::SIGKILL,
            };
            Exit {
                code: TIMED_OUT,
                signal,
                timed_out: true,
                ..Exit::default()
            }
        }
    }
}

/// Resolves when somebody says so; for ever pending if nobody can any more.
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
