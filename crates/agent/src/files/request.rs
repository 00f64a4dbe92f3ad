//! Validates a path before it is used. Pure.

use std::ffi::CString;

use hutch_wire::limits::MAX_PATH;
use hutch_wire::v1::Path;
use tonic::Status;

/// Most characters of a path in an error.
const MAX_SHOWN_CHARS: usize = 200;

/// A path that is valid for the kernel.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The directory where a relative path starts; `None` means the agent's working
    /// directory.
    pub base: Option<CString>,
    pub path: CString,
}

impl Wanted {
    /// Validates a request's path.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with the reason.
    pub fn check(path: Option<Path>, what: &str) -> Result<Self, Status> {
        let Path { path, base } = path.unwrap_or_default();
        if path.is_empty() {
            return Err(refuse(&format!("{what} is empty")));
        }
        let base = match base.len() {
            0 => None,
            _ => Some(terminated(
                base.into(),
                "the directory that the path begins at",
            )?),
        };
        let path = terminated(path.into(), what)?;
        Ok(Self { base, path })
    }

    /// The path for error messages: quoted, escaped and shortened.
    pub fn shown(&self) -> String {
        let text = String::from_utf8_lossy(self.path.as_bytes());
        let short: String = text.chars().take(MAX_SHOWN_CHARS).collect();
        let rest = if short.len() < text.len() { "…" } else { "" };
        format!("{short:?}{rest}")
    }
}

fn terminated(bytes: Vec<u8>, what: &str) -> Result<CString, Status> {
    if bytes.len() > MAX_PATH {
        let size = bytes.len();
        return Err(refuse(&format!("{what} has {size} bytes, over {MAX_PATH}")));
    }
    CString::new(bytes).map_err(|_| refuse(&format!("{what} holds a NUL")))
}

fn refuse(text: &str) -> Status {
    Status::invalid_argument(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: impl Into<Vec<u8>>, base: impl Into<Vec<u8>>) -> Option<Path> {
        Some(Path {
            path: path.into().into(),
            base: base.into().into(),
        })
    }

    #[test]
    fn paths_that_the_kernel_would_refuse_are_refused() {
        assert!(Wanted::check(None, "the path").is_err());
        let long = "x".repeat(MAX_PATH + 1);
        for (bad, base) in [
            ("", "/"),
            ("a\0b", ""),
            (&long, ""),
            ("a", "/\0"),
            ("a", &long),
        ] {
            assert!(
                Wanted::check(path(bad, base), "the path").is_err(),
                "{bad:?}"
            );
        }
        assert!(Wanted::check(path("x".repeat(MAX_PATH), ""), "the path").is_ok());
    }

    #[test]
    fn any_other_bytes_pass_and_are_shown_on_one_line() {
        let wanted = Wanted::check(path(b"-a \n\"\xff\xc3\xbc".to_vec(), ""), "the path").unwrap();
        assert_eq!(wanted.shown(), "\"-a \\n\\\"\u{fffd}ü\"");
        let long = Wanted::check(path("ü".repeat(1000), ""), "the path").unwrap();
        assert!(long.shown().chars().count() < 210);
    }
}
