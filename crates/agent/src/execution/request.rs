//! Validates a start before anything is done for it. Pure.

use std::collections::HashMap;
use std::ffi::CString;

use bytes::Bytes;
use hutch_wire::limits::{MAX_ID, MAX_START};
use hutch_wire::v1::Start;
use hutch_wire::v1::start::Program;
use tonic::Status;

/// A validated program.
#[derive(Debug)]
pub enum Checked {
    /// A program and its arguments; at least one.
    Arguments(Vec<CString>),
    /// A script.
    Script(Bytes),
}

/// Validates a start; returns its program and directory.
///
/// # Errors
/// INVALID_ARGUMENT with the reason.
pub fn check(start: &mut Start) -> Result<(Checked, CString), Status> {
    check_id(&start.id)?;
    check_environment(&start.env)?;
    let program = start
        .program
        .take()
        .ok_or_else(|| refuse("neither argv nor a script"))?;
    let size = size(start, &program);
    if size > MAX_START {
        return Err(refuse(&format!(
            "{size} bytes of program and environment, over {MAX_START}"
        )));
    }
    let directory = terminated(std::mem::take(&mut start.cwd).into_bytes(), "cwd")?;
    let checked = match program {
        Program::Script(script) => Checked::Script(script),
        Program::Argv(argv) if argv.args.is_empty() => return Err(refuse("argv is empty")),
        Program::Argv(argv) => {
            let terminate = |text: String| terminated(text.into_bytes(), "an argument");
            Checked::Arguments(
                argv.args
                    .into_iter()
                    .map(terminate)
                    .collect::<Result<_, _>>()?,
            )
        }
    };
    Ok((checked, directory))
}

fn refuse(text: &str) -> Status {
    Status::invalid_argument(format!("start: {text}"))
}

fn terminated(bytes: Vec<u8>, what: &str) -> Result<CString, Status> {
    CString::new(bytes).map_err(|_| refuse(&format!("{what} holds a NUL")))
}

fn check_id(id: &str) -> Result<(), Status> {
    let fits = (1..=MAX_ID).contains(&id.len());
    if fits
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Ok(());
    }
    Err(refuse("the id is not 1 to 64 of [A-Za-z0-9-]"))
}

/// Checks that a process can be given these variables.
///
/// # Errors
/// INVALID_ARGUMENT with the invalid variable.
pub fn check_environment(env: &HashMap<String, String>) -> Result<(), Status> {
    for (name, value) in env {
        let mut bytes = name.bytes();
        let head = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !head || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(refuse(&format!(
                "{name:?} is no name for an environment variable"
            )));
        }
        if value.contains('\0') {
            return Err(refuse(&format!(
                "the environment variable {name} holds a NUL"
            )));
        }
    }
    Ok(())
}

fn size(start: &Start, program: &Program) -> usize {
    let environment: usize = start
        .env
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let program = match program {
        Program::Script(script) => script.len(),
        Program::Argv(argv) => argv.args.iter().map(String::len).sum(),
    };
    environment + program
}

#[cfg(test)]
mod tests {
    use hutch_wire::v1::Argv;

    use super::*;

    fn start(arguments: &[&str]) -> Start {
        let args = arguments.iter().map(ToString::to_string).collect();
        Start {
            id: "a".into(),
            program: Some(Program::Argv(Argv { args })),
            ..Start::default()
        }
    }

    #[test]
    fn a_plain_start_passes() {
        assert!(check(&mut start(&["true", ""])).is_ok());
    }

    #[test]
    fn paths_that_the_kernel_would_refuse_are_refused() {
        assert!(check(&mut start(&[])).is_err());
        assert!(check(&mut start(&["a\0b"])).is_err());
        assert!(
            check(&mut Start {
                cwd: "/\0".into(),
                ..start(&["true"])
            })
            .is_err()
        );
        assert!(
            check(&mut Start {
                program: None,
                ..start(&["true"])
            })
            .is_err()
        );
        assert!(check(&mut start(&["true", &"x".repeat(MAX_START)])).is_err());
    }

    #[test]
    fn ids_are_short_and_plain() {
        for id in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(
                check(&mut Start {
                    id: id.into(),
                    ..start(&["true"])
                })
                .is_err(),
                "{id}"
            );
        }
    }

    #[test]
    fn environment_names_are_those_of_posix() {
        for name in ["", "1A", "A-B", "A=B", "A B", "Ä"] {
            let env = [(name.to_string(), String::new())].into();
            assert!(
                check(&mut Start {
                    env,
                    ..start(&["true"])
                })
                .is_err(),
                "{name}"
            );
        }
        let env = [("_a1".to_string(), "ü\n=".to_string())].into();
        assert!(
            check(&mut Start {
                env,
                ..start(&["true"])
            })
            .is_ok()
        );
    }
}
