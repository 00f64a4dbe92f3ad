//! `/exec`: one command, and the shape in which its result is told.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Not;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::envelope::{self, Data};
use super::sandbox_id::SandboxId;
use crate::domain::exec::{ExecError, ExecOutcome, ExecRequest, Program};
use crate::http::body::Fields;
use crate::service::{Service, ServiceError};

/// `POST /exec`: a command that fails is a success of this route.
pub async fn exec(
    State(service): State<Arc<Service>>,
    SandboxId(id): SandboxId,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let fields = match Fields::read(body) {
        Ok(fields) => fields,
        Err(status) => return Data::of(&id).fail(status.as_u16(), "The request body is too large"),
    };
    let Some(command) = fields.name("command") else {
        return Data::of(&id).fail(400, "Missing command. Provide command in JSON body");
    };
    let data = || Data::of(&id).with("command", command);
    let options = match ExecOptions::parse(&fields) {
        Ok(options) => options,
        Err(text) => return data().fail(400, &text),
    };
    let timeout = options.timeout;
    let request = options.request(command, service.max_output());
    match service.exec(&id, request).await {
        Ok(outcome) => answer(&id, &ExecResult::new(command, timeout, &outcome)),
        Err(ServiceError::Exec(ExecError::Invalid(text))) => data().fail(400, &text),
        Err(error) => data()
            .with("type", "execution_error")
            .fail(500, &error.to_string()),
    }
}

/// What a request may say about how its command runs.
struct ExecOptions {
    cwd: Option<String>,
    env: BTreeMap<String, String>,
    timeout: Option<Duration>,
}

impl ExecOptions {
    /// From the request's own fields, else from its `options`.
    fn parse(fields: &Fields) -> Result<Self, String> {
        let options = fields.object("options");
        let field = |name: &str| fields.get(name).or_else(|| options.get(name));
        Ok(Self {
            cwd: field("cwd").map(cwd).transpose()?.flatten(),
            env: field("env").map(env).transpose()?.unwrap_or_default(),
            timeout: field("timeout").map(timeout).transpose()?,
        })
    }

    fn request(self, command: &str, output_limit: u64) -> ExecRequest {
        ExecRequest {
            program: Program::Script(command.to_owned().into()),
            cwd: self.cwd,
            env: self.env,
            timeout: self.timeout,
            output_limit,
        }
    }
}

/// A blank directory counts as none.
fn cwd(value: &Value) -> Result<Option<String>, String> {
    let text = value.as_str().ok_or("Invalid cwd: it must be a string")?;
    if text.contains('\0') {
        return Err("Invalid cwd: it contains a NUL".to_owned());
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn env(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let record = value
        .as_object()
        .ok_or("Invalid env: it must be a record of string to string")?;
    record
        .iter()
        .map(|(name, value)| {
            let value = value
                .as_str()
                .ok_or("Invalid env: it must be a record of string to string")?;
            if !is_env_name(name) {
                return Err(format!(
                    "Invalid env name: {name:?} is not [A-Za-z_][A-Za-z0-9_]*"
                ));
            }
            if value.contains('\0') {
                return Err(format!("Invalid env: the value of {name} contains a NUL"));
            }
            Ok((name.clone(), value.to_owned()))
        })
        .collect()
}

fn is_env_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Milliseconds; fractions are rounded up.
fn timeout(value: &Value) -> Result<Duration, String> {
    value
        .as_f64()
        .filter(|ms| *ms > 0.0)
        .and_then(|ms| Duration::try_from_secs_f64(ms.ceil() / 1000.0).ok())
        .ok_or_else(|| "Invalid timeout: it must be a positive number of milliseconds".to_owned())
}

/// The answer for a command that ended, whatever its exit code.
fn answer(id: &str, result: &ExecResult) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        sandbox_id: &'a str,
        command: &'a str,
        result: &'a ExecResult<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
    }
    let failed = !result.success;
    let text = format!("Command failed with exit code {}", result.exit_code);
    let data = Data {
        sandbox_id: id,
        command: result.command,
        result,
        error: failed.then_some(&text),
        exit_code: failed.then_some(result.exit_code),
    };
    envelope::answer(&data, 200, if failed { &text } else { "ok" })
}

/// A command's outcome as clients read it: some by `stdout` and `stderr`, some
/// by `output` and `error`.
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
    #[serde(skip_serializing_if = "Not::not")]
    timed_out: bool,
    #[serde(skip_serializing_if = "Not::not")]
    truncated: bool,
}

impl<'a> ExecResult<'a> {
    /// The outcome of `command`, which had `timeout` to end.
    pub fn new(command: &'a str, timeout: Option<Duration>, outcome: &'a ExecOutcome) -> Self {
        let stdout = || text(&outcome.stdout);
        let stderr = || match outcome.timed_out {
            false => text(&outcome.stderr),
            true => {
                let mut stderr = text(&outcome.stderr).into_owned();
                // `text` took the newline that separates this line from the others.
                if !outcome.stderr.is_empty() {
                    stderr.push('\n');
                }
                let ms = timeout.unwrap_or(outcome.duration).as_millis();
                Cow::Owned(format!("{stderr}Command timed out after {ms}ms"))
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
            timestamp: format!("{:.3}", Timestamp::now()),
            timed_out: outcome.timed_out,
            truncated: outcome.truncated,
        }
    }
}

/// Output as text: bytes that are not UTF-8 are replaced, and one newline at
/// the end goes.
fn text(output: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(output.strip_suffix(b"\n").unwrap_or(output))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(exit_code: i32, stdout: &str, stderr: &str) -> ExecOutcome {
        ExecOutcome {
            exit_code,
            timed_out: exit_code == 124,
            truncated: false,
            stdout: stdout.to_owned().into(),
            stderr: stderr.to_owned().into(),
            duration: Duration::from_millis(1500),
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
    fn a_time_out_is_told_at_the_end_of_stderr() {
        let timeout = Some(Duration::from_millis(1500));
        for (stderr, told) in [
            ("", "Command timed out after 1500ms"),
            ("x", "x\nCommand timed out after 1500ms"),
            ("x\n", "x\nCommand timed out after 1500ms"),
        ] {
            let outcome = outcome(124, "", stderr);
            let result = json!(ExecResult::new("sleep 9", timeout, &outcome));
            assert_eq!(result["stderr"], told, "{stderr:?}");
            assert_eq!(result["timedOut"], true);
        }
    }

    #[test]
    fn a_result_has_both_spellings_and_an_iso_time() {
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

    #[test]
    fn options_that_make_no_sense_are_refused_with_a_reason() {
        for nonsense in [
            json!(0),
            json!(-1),
            json!("10"),
            json!(true),
            json!(1e300),
            json!([]),
        ] {
            assert!(timeout(&nonsense).is_err(), "{nonsense}");
        }
        assert_eq!(timeout(&json!(1500)), Ok(Duration::from_millis(1500)));
        assert_eq!(timeout(&json!(0.5)), Ok(Duration::from_millis(1)));
        for nonsense in [
            json!([]),
            json!({"A": 1}),
            json!({"1A": "x"}),
            json!({"": "x"}),
            json!({"A": "\0"}),
        ] {
            assert!(env(&nonsense).is_err(), "{nonsense}");
        }
        assert!(cwd(&json!(5)).is_err());
        assert_eq!(cwd(&json!(" ")), Ok(None));
    }
}
