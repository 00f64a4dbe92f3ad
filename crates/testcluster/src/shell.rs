//! Runs a program to its end. The error of a failed program contains its output.
//! For long-running processes see `process`.

use std::io::{ErrorKind, Result as IoResult};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program. If it fails, its output is part of the error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a program and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ended = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !ended.status.success() {
        let arguments: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let stdout = String::from_utf8_lossy(&ended.stdout);
        bail!(
            "{name} {}: {}\n{}{}",
            arguments.join(" "),
            ended.status,
            last_lines(&stdout, 10),
            last_lines(&stderr, 20)
        );
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// The last lines of a text, indented for error messages.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect()
}

/// True if a program is on PATH.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Treats the error "not found" as success.
pub(crate) fn ignore_missing(result: IoResult<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_failed_program_contains_its_output() {
        let error = run(Command::new("sh").args(["-c", "echo because >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("because") && error.contains('3'), "{error}");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "  b\n  c\n");
    }
}
