//! Finds the shell that runs a script, and passes the script to it unchanged.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::launch::INHERITED;
use super::program;

/// Longest script passed as an argument; the kernel's limit for one argument is 128
/// KiB.
const LONGEST_ARGUMENT: usize = 96 << 10;

/// A shell of the image.
#[derive(Debug)]
pub struct Shell {
    name: &'static CStr,
    /// Its binary.
    pub file: CString,
}

/// How to start a shell with a script.
#[derive(Debug)]
pub struct Invocation {
    /// The shell's arguments, its own name first.
    pub arguments: Vec<CString>,
    /// The script as a file, if the arguments refer to it by descriptor number.
    pub inherited: Option<OwnedFd>,
}

impl Shell {
    /// bash if the image has it, else sh, else `None`.
    pub fn find(path: &[u8]) -> Option<Self> {
        Self::bash(path).or_else(|| Self::named(c"sh", path))
    }

    /// bash, or `None`.
    pub fn bash(path: &[u8]) -> Option<Self> {
        Self::named(c"bash", path)
    }

    /// Plain `sh`, for programs without an interpreter line.
    pub fn posix(path: &[u8]) -> Option<Self> {
        Self::named(c"sh", path)
    }

    fn named(name: &'static CStr, path: &[u8]) -> Option<Self> {
        // The usual directories come first: a command's PATH may be anything.
        let usual = program::find(name, b"/bin:/usr/bin:/usr/local/bin");
        let file = usual.or_else(|_| program::find(name, path)).ok()?;
        Some(Self { name, file })
    }

    /// True for bash.
    pub fn is_bash(&self) -> bool {
        self.name == c"bash"
    }

    /// The arguments with which this shell runs `script`, byte for byte.
    ///
    /// # Errors
    /// If a long script cannot be written to a memory file.
    pub fn invoke(&self, script: &[u8]) -> io::Result<Invocation> {
        if script.len() <= LONGEST_ARGUMENT
            && let Ok(text) = CString::new(script)
        {
            // `--`: otherwise a script that starts with a dash would be parsed as
            // options.
            let arguments = vec![self.name.into(), c"-c".into(), c"--".into(), text];
            return Ok(Invocation {
                arguments,
                inherited: None,
            });
        }
        let file = CString::new(format!("/proc/self/fd/{INHERITED}"))?;
        let arguments = vec![self.name.into(), file];
        Ok(Invocation {
            arguments,
            inherited: Some(sealed(script)?),
        })
    }

    /// The arguments with which this shell runs the file `program`, a script without an
    /// interpreter line.
    pub fn interpret(&self, program: &CStr, arguments: &[CString]) -> Vec<CString> {
        let mut all = vec![self.name.into(), program.into()];
        all.extend(arguments.iter().skip(1).cloned());
        all
    }
}

/// Writes the bytes to a sealed anonymous file: a shell reads its script while running
/// it, so nobody may change it.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create(c"script", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = rustix::io::write(&file, rest)?;
        rest = &rest[count..];
    }
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, all)?;
    Ok(file)
}
