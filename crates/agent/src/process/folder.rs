//! The working directory of what is being started.
//!
//! The agent itself goes there for the moment of the start, and comes back:
//! that gives the exact error of a directory that cannot be entered, relative
//! programs resolve as they should, and the cheap way of spawning remains
//! possible. It is sound because nothing awaits meanwhile, and the agent's only
//! other threads, the workers for files, begin at an open folder.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{chdir, fchdir};

use crate::log;

/// The agent's own working directory.
#[derive(Debug)]
pub struct Home(OwnedFd);

/// While it lives, the agent is in the directory it was made for.
#[must_use]
pub struct Visit<'a>(Option<&'a Home>);

impl Home {
    /// The directory the agent was started in.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn current() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, c".", flags, Mode::empty()).map(Self)
    }

    /// Goes to `folder` until the visit is dropped; an empty one is home.
    ///
    /// # Errors
    /// Why it cannot be entered.
    pub fn visit(&self, folder: &CStr) -> Result<Visit<'_>, Errno> {
        if folder.is_empty() {
            return Ok(Visit(None));
        }
        chdir(folder)?;
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
