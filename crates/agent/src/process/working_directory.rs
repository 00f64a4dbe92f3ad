//! The working directory for a process start.
//!
//! The agent itself changes to the directory for the start and then back. That gives
//! the exact error of a directory that cannot be entered, resolves relative programs
//! correctly and allows `posix_spawn`. It is safe because nothing awaits meanwhile, and
//! the agent's only other threads, the file workers, start paths at an open directory.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{chdir, fchdir};

use crate::log;

/// The agent's own working directory.
#[derive(Debug)]
pub struct WorkingDirectory(OwnedFd);

/// The agent is in the other directory while this value lives.
#[must_use]
pub struct Visit<'a>(Option<&'a WorkingDirectory>);

impl WorkingDirectory {
    /// The directory in which the agent was started.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn current() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, c".", flags, Mode::empty()).map(Self)
    }

    /// Changes to `directory` until the returned value is dropped; an empty path
    /// changes nothing.
    ///
    /// # Errors
    /// If it cannot be entered.
    pub fn visit(&self, directory: &CStr) -> Result<Visit<'_>, Errno> {
        if directory.is_empty() {
            return Ok(Visit(None));
        }
        chdir(directory)?;
        Ok(Visit(Some(self)))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let Some(home) = self.0 else { return };
        if let Err(problem) = fchdir(&home.0) {
            log::line(&format!(
                "cannot go back to the working directory: {problem}"
            ));
            let _ = chdir(c"/");
        }
    }
}
