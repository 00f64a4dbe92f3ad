//! `hutch-agent connect --start`: the agent of a container that Hutch did not create.
//!
//! Starts an agent if none answers. The new agent is a daemon in its own session; it
//! inherits nothing of the exec that started it and outlives it. The process that binds
//! the socket starts the agent and passes the socket to it, so concurrent callers start
//! only one agent.

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

/// Longest wait between another process binding the socket and listening on it.
const SOCKET_OWNER_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Most bytes of a new agent's error output that are passed on.
const MAX_STARTUP_ERROR_BYTES: u64 = 1024;

/// The standard error of an agent that was just started, until it serves.
pub struct StartupErrors(OwnedFd);

/// Returns a stream to this container's agent and, if the agent was started here, its
/// error output.
///
/// # Errors
/// If no agent can be started, or another user's process listens on the socket.
pub fn dial_or_start() -> io::Result<(UnixStream, Option<StartupErrors>)> {
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
            Err(_) if begin.elapsed() < SOCKET_OWNER_TIMEOUT => std::thread::sleep(RETRY_INTERVAL),
            Err(problem) => return Err(problem),
        }
    }
}

/// Starts the agent. Its sessions are in a directory beside its binary.
fn start(listener: &UnixListener) -> io::Result<StartupErrors> {
    let own = std::env::current_exe()?;
    let state = own.with_file_name("state");
    // If this directory cannot be created, the agent chooses another place and logs
    // that.
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
    Ok(StartupErrors(words))
}

impl StartupErrors {
    /// Returns the text that is available now.
    pub fn read(self) -> String {
        let mut text = Vec::new();
        // The pipe is non-blocking: the read ends when the pipe is empty.
        let _ = std::fs::File::from(self.0)
            .take(MAX_STARTUP_ERROR_BYTES)
            .read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}
