//! `hutch-agent connect --start`: the agent of a container that is not Hutch's.
//!
//! Where no agent answers, one is started: a daemon in a session of its own, that
//! has nothing of the exec which brought it and outlives it. Whoever opens the
//! socket starts the agent and hands the socket down to it, so that of many who
//! come at once one does.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::process::{Environment, Launch, launch};
use crate::socket;

/// How long others may be between opening the socket and listening on it.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// Longest last words of an agent that are passed on.
const WORDS: u64 = 1024;

/// What an agent says on its standard error before it serves.
pub struct Words(OwnedFd);

/// A stream to this container's agent, and the words of one that was started.
///
/// # Errors
/// When none can be started, or somebody else listens in its place.
pub fn dial_or_start() -> io::Result<(UnixStream, Option<Words>)> {
    let address = socket::of_this_container()?;
    let begin = Instant::now();
    loop {
        if let Ok(stream) = UnixStream::connect_addr(&address) {
            if !socket::trusted(&stream) {
                return Err(io::Error::other(
                    "another process has taken the agent's socket",
                ));
            }
            return Ok((stream, None));
        }
        match UnixListener::bind_addr(&address) {
            Ok(listener) => {
                let words = start(&listener)?;
                return Ok((UnixStream::connect_addr(&address)?, Some(words)));
            }
            Err(_) if begin.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(problem) => return Err(problem),
        }
    }
}

/// Starts the agent, with its sessions in a folder beside its binary.
fn start(listener: &UnixListener) -> io::Result<Words> {
    let own = std::env::current_exe()?;
    let state = own.with_file_name("state");
    // Where it cannot be made, the agent finds another place, and says so.
    let _ = DirBuilder::new().mode(0o700).create(&state);
    let arguments = [
        c"hutch-agent".into(),
        c"run".into(),
        c"--attached".into(),
        CString::new(state.as_os_str().as_bytes())?,
    ];
    let (words, said) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let null = openat(
        CWD,
        c"/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    launch(&Launch {
        arguments: &arguments,
        file: Some(c"/proc/self/exe"),
        environment: &Environment::of_the_agent(),
        stdin: null.as_fd(),
        output: Some((null.as_fd(), said.as_fd())),
        inherited: &[(listener.as_fd(), socket::HANDED_DOWN)],
    })
    .map_err(|problem| io::Error::other(format!("the agent cannot be started: {problem:?}")))?;
    Ok(Words(words))
}

impl Words {
    /// What there is of them.
    pub fn all(self) -> String {
        let mut text = Vec::new();
        // It ends where nothing more has been said.
        let _ = std::fs::File::from(self.0)
            .take(WORDS)
            .read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}
