//! The format of a command's result.

use std::borrow::Cow;
use std::ops::Not;
use std::time::Duration;

use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::envelope;
use hutch_core::exec::ExecOutcome;

/// The response for a command that ended with any exit code.
pub fn answer(id: &str, result: &ExecResult) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        sandbox_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a str>,
        command: &'a str,
        result: &'a ExecResult<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        #[serde(skip_serializing_if = "Not::not")]
        session_reset: bool,
    }
    let failed = !result.success;
    let text = format!("Command failed with exit code {}", result.exit_code);
    let data = Data {
        sandbox_id: id,
        session_id: result.session_id,
        command: result.command,
        result,
        error: failed.then_some(&text),
        exit_code: failed.then_some(result.exit_code),
        session_reset: result.session_reset,
    };
    envelope::answer(&data, 200, if failed { &text } else { "ok" })
}

/// A command's result. Some clients read `stdout` and `stderr`, others `output` and
/// `error`, so it contains both pairs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecResult<'a> {
    success: bool,
    exit_code: i32,
    stdout: Cow<'a, str>,
    stderr: Cow<'a, str>,
    output: Cow<'a, str>,
    error: Cow<'a, str>,
    command: &'a str,
    /// Milliseconds.
    duration: u64,
    /// ISO 8601.
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Not::not")]
    session_reset: bool,
    #[serde(skip_serializing_if = "Not::not")]
    timed_out: bool,
    #[serde(skip_serializing_if = "Not::not")]
    truncated: bool,
}

impl<'a> ExecResult<'a> {
    /// The result of `command`, which ran with `timeout`.
    pub fn new(command: &'a str, timeout: Option<Duration>, outcome: &'a ExecOutcome) -> Self {
        let note = note(timeout, outcome);
        let stdout = || text(&outcome.stdout);
        let stderr = || match &note {
            None => text(&outcome.stderr),
            Some(note) => {
                let mut stderr = text(&outcome.stderr).into_owned();
                // `text` removed the newline that separates the note from the output.
                if !outcome.stderr.is_empty() {
                    stderr.push('\n');
                }
                Cow::Owned(stderr + note)
            }
        };
        Self {
            success: outcome.exit_code == 0,
            exit_code: outcome.exit_code,
            stdout: stdout(),
            stderr: stderr(),
            output: stdout(),
            error: stderr(),
            command,
            duration: (outcome.duration.as_secs_f64() * 1000.0).round() as u64,
            timestamp: now(),
            session_id: None,
            session_reset: outcome.session.reset,
            timed_out: outcome.timed_out,
            truncated: outcome.truncated,
        }
    }

    /// Adds the ID of the command's session.
    pub fn of_session(mut self, id: &'a str) -> Self {
        self.session_id = Some(id);
        self
    }
}

/// The line added to stderr if the command was killed by its timeout or by the deletion
/// of its session.
fn note(timeout: Option<Duration>, outcome: &ExecOutcome) -> Option<String> {
    if outcome.timed_out {
        let ms = timeout.unwrap_or(outcome.duration).as_millis();
        return Some(format!("Command timed out after {ms}ms"));
    }
    let closed = || "The session was deleted, which ended the command".to_owned();
    outcome.session.closed.then(closed)
}

/// The current time in ISO 8601 with milliseconds.
pub fn now() -> String {
    format!("{:.3}", Timestamp::now())
}

/// Output as text. Invalid UTF-8 is replaced, and one newline at the end is removed.
fn text(output: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(output.strip_suffix(b"\n").unwrap_or(output))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use hutch_core::exec::SessionOutcome;

    fn outcome(exit_code: i32, stdout: &str, stderr: &str) -> ExecOutcome {
        ExecOutcome {
            exit_code,
            timed_out: exit_code == 124,
            truncated: false,
            stdout: stdout.to_owned().into(),
            stderr: stderr.to_owned().into(),
            duration: Duration::from_millis(1500),
            session: SessionOutcome::default(),
        }
    }

    #[test]
    fn output_loses_exactly_one_newline_and_keeps_nuls() {
        assert_eq!(text(b"hi\n"), "hi");
        assert_eq!(text(b"a\n\n"), "a\n");
        assert_eq!(text(b"a\0b"), "a\0b");
        assert_eq!(text(b"\xff\n"), "\u{fffd}");
    }

    #[test]
    fn a_timeout_is_reported_at_the_end_of_stderr() {
        let timeout = Some(Duration::from_millis(1500));
        for (stderr, expected) in [
            ("", "Command timed out after 1500ms"),
            ("x", "x\nCommand timed out after 1500ms"),
            ("x\n", "x\nCommand timed out after 1500ms"),
        ] {
            let outcome = outcome(124, "", stderr);
            let result = json!(ExecResult::new("sleep 9", timeout, &outcome));
            assert_eq!(result["stderr"], expected, "{stderr:?}");
            assert_eq!(result["timedOut"], true);
        }
    }

    #[test]
    fn a_result_has_both_names_of_each_output_and_an_iso_time() {
        let outcome = outcome(0, "out\n", "err\n");
        let result = json!(ExecResult::new("true", None, &outcome));
        assert_eq!(result["output"], result["stdout"]);
        assert_eq!(result["error"], result["stderr"]);
        assert_eq!(result["success"], true);
        assert_eq!(result["duration"], 1500);
        let time = result["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(result.get("timedOut").is_none() && result.get("truncated").is_none());
    }
}
