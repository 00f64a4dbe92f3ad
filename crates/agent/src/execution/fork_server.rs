//! A bash that is started once and copied (forked) for each shell. A copy costs a
//! quarter of a start: the kernel shares the memory, and nothing is loaded, linked or
//! initialised again.
//!
//! It uses a builtin that bash loads (`bash/fork_server.c`). If bash cannot load it or
//! is too old, there is no fork server and shells are started as usual. A copy has its
//! own `$$`, group, session, RANDOM and SECONDS, and the agent is its parent; the only
//! visible difference to a started shell is two more names in `compgen -b`. The server
//! is not trusted more than any other process of the sandbox: it cannot name a process
//! that is not the agent's child, and it cannot block the agent for long.

use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Signal, kill_process};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::process::reaper::runs;
use crate::process::shell::Shell;
use crate::process::{Ended, Environment, Launch, Pid, Reaper, launch};

const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bash.so"));

/// Descriptor numbers in the server: its control socket (as in `bash/bash.h`) and the
/// library.
const SERVER_FDS: [i32; 2] = [105, 106];
/// Most files in one message; the same number as in `bash/fork_server.c`.
const MAX_FILES: usize = 16;
/// Loads the builtins and becomes the server. A copy continues after this text, with
/// the received word in `REPLY`.
const SERVE: &str = "enable -f /proc/self/fd/106 __hutch_fork __hutch_dump&&exec 106<&-&&\
__hutch_fork&&";
/// Longest wait for the server to start.
const START_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for one copy; the agent's thread blocks for it. A copy takes 0.2 ms,
/// and much longer only if the sandbox has used up its CPU quota or the server was
/// stopped just now.
const COPY_TIMEOUT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// The bash process that is copied. Dropping it kills it; its copies stay.
#[derive(Debug)]
pub struct ForkServer {
    main: Pid,
    /// Keeps the server in the list of watched processes, so that it does not count as
    /// a background process.
    ended: oneshot::Receiver<Ended>,
    line: UnixStream,
}

impl ForkServer {
    /// Starts a server whose copies run `script` (one line). Resolves when it serves;
    /// `None` if this bash cannot.
    pub async fn start(
        shell: &Shell,
        script: &str,
        environment: &Environment,
        nothing: BorrowedFd<'_>,
        reaper: &Reaper,
    ) -> Option<Self> {
        let server = Self::launch(shell, script, environment, nothing, reaper).ok()?;
        let first = tokio::time::timeout(START_TIMEOUT, server.line.readable()).await;
        first.ok()?.ok()?;
        (server.answer().ok()? == server.main).then_some(server)
    }

    fn launch(
        shell: &Shell,
        script: &str,
        environment: &Environment,
        nothing: BorrowedFd<'_>,
        reaper: &Reaper,
    ) -> io::Result<Self> {
        let (line, child) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        set_socket_passcred(&line, true)?;
        ioctl_fionbio(&line, true)?;
        let line = UnixStream::from_std(line.into())?;
        let library = memfd_create(c"hutch-bash", MemfdFlags::CLOEXEC)?;
        rustix::io::write(&library, LIBRARY)?;
        let script = CString::new([SERVE, script].concat())?;
        let arguments = shell.invoke(script.as_bytes())?.arguments;
        let main = launch(&Launch {
            arguments: &arguments,
            file: Some(&shell.file),
            environment,
            stdin: nothing,
            output: Some((nothing, nothing)),
            inherited: &[
                (child.as_fd(), SERVER_FDS[0]),
                (library.as_fd(), SERVER_FDS[1]),
            ],
        })
        .map_err(|problem| io::Error::other(format!("{problem:?}")))?;
        Ok(Self {
            main,
            ended: reaper.watch(main),
            line,
        })
    }

    /// Creates a copy that has these files (at most [`MAX_FILES`]) under these
    /// descriptor numbers, in a session of its own.
    ///
    /// # Errors
    /// If there is no copy: the sandbox has no processes left, or the server is gone.
    pub fn fork(&self, files: &[(BorrowedFd<'_>, i32)]) -> io::Result<Pid> {
        let numbers: Vec<u8> = files
            .iter()
            .flat_map(|(_, number)| number.to_ne_bytes())
            .collect();
        let files: Vec<BorrowedFd<'_>> = files.iter().map(|(file, _)| *file).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if !runs(self.main) {
            return Err(Errno::PIPE.into());
        }
        let line = self.line.as_fd();
        sendmsg(
            line,
            &[IoSlice::new(&numbers)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        // No await here: a copy that ends at once must not be reaped before it is
        // watched.
        poll(
            &mut [PollFd::new(&line, PollFlags::IN)],
            Some(&COPY_TIMEOUT),
        )?;
        let copy = self.answer()?;
        if copy != self.main && runs(copy) {
            Ok(copy)
        } else {
            Err(Errno::AGAIN.into())
        }
    }

    /// Reads one answer. The kernel tells the sender's pid.
    fn answer(&self) -> io::Result<Pid> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let data = &mut [IoSliceMut::new(&mut byte)];
        recvmsg(&self.line, data, &mut control, RecvFlags::empty())?;
        let sender = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
            _ => None,
        });
        sender.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        // A stopped server would not notice that its control socket closed.
        if !matches!(
            self.ended.try_recv(),
            Ok(Ended::Exited(_) | Ended::Killed(_))
        ) {
            let _ = kill_process(self.main, Signal::KILL);
        }
    }
}
