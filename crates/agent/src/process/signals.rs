//! The agent's signals, as events instead of handlers.
//!
//! All signals are blocked and read from a descriptor, which reports the sender. Inside
//! the sandbox anybody may send SIGTERM to PID 1, but only a sender from outside its
//! pid namespace may end it. Other signals that would end a process are read and
//! ignored.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The meaning of a signal for the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A child's status may be available.
    Child,
    /// The sandbox must end.
    Terminate,
}

/// The stream of signal events.
#[derive(Debug)]
pub struct Signals {
    descriptor: AsyncFd<SignalFd>,
    only_from_outside: bool,
}

impl Signals {
    /// Blocks all signals and opens the stream. Call it within the runtime and before
    /// starting anything. With `only_from_outside`, SIGTERM from the agent's own pid
    /// namespace is ignored.
    ///
    /// # Errors
    /// If the kernel gives no descriptor.
    pub fn block(only_from_outside: bool) -> io::Result<Self> {
        let mut set = SigSet::all();
        // Faults of the agent itself: they would end it even if blocked.
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGABRT,
            Signal::SIGSYS,
        ] {
            set.remove(fault);
        }
        set.thread_block()?;
        let descriptor =
            SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: the descriptor is owned, never replaced (its mask stays as it
        // is), and closed only when the `AsyncFd` is dropped.
        #[allow(unsafe_code)]
        let descriptor =
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
        Ok(Self {
            descriptor,
            only_from_outside,
        })
    }

    /// Returns the next event. Cancel-safe.
    pub async fn next(&self) -> Event {
        loop {
            let Ok(mut ready) = self.descriptor.readable().await else {
                std::future::pending().await
            };
            match ready.get_inner().read_signal() {
                Ok(Some(signal)) => {
                    if let Some(event) = self.meaning(&signal) {
                        return event;
                    }
                }
                _ => ready.clear_ready(),
            }
        }
    }

    fn meaning(&self, signal: &siginfo) -> Option<Event> {
        match i32::try_from(signal.ssi_signo) {
            Ok(libc::SIGCHLD) => Some(Event::Child),
            Ok(libc::SIGTERM) if !self.only_from_outside || from_outside(signal) => {
                Some(Event::Terminate)
            }
            _ => None,
        }
    }
}

/// The kernel reports pid 0 for a sender that this namespace cannot see. With
/// `sigqueue` a sender chooses the pid itself, so only plain kills count.
fn from_outside(signal: &siginfo) -> bool {
    signal.ssi_code == libc::SI_USER && signal.ssi_pid == 0
}
