//! Options of commands and sessions: working directory, environment and timeout.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::body::Fields;
use hutch_core::exec::ExecRequest;

pub struct ExecOptions {
    cwd: Option<String>,
    env: BTreeMap<String, String>,
    /// The command is killed after this time.
    pub timeout: Option<Duration>,
}

impl ExecOptions {
    /// Each option from the body's own field, or else from its object `options`.
    ///
    /// # Errors
    /// The text for the client if an option is invalid.
    pub fn parse(fields: &Fields) -> Result<Self, String> {
        let options = fields.object("options");
        let field = |name: &str| fields.get(name).or_else(|| options.get(name));
        Ok(Self {
            cwd: field("cwd").map(cwd).transpose()?.flatten(),
            env: field("env").map(env).transpose()?.unwrap_or_default(),
            timeout: field("timeout").map(timeout).transpose()?,
        })
    }

    /// A request to run `command` with these options.
    pub fn request(self, command: &str, output_limit: u64) -> ExecRequest {
        ExecRequest {
            cwd: self.cwd,
            env: self.env,
            timeout: self.timeout,
            ..ExecRequest::script(command, output_limit)
        }
    }
}

/// A working directory; `None` if it is blank.
///
/// # Errors
/// The text for the client if it is no string or contains a NUL.
pub fn cwd(value: &Value) -> Result<Option<String>, String> {
    let text = value.as_str().ok_or("Invalid cwd: it must be a string")?;
    if text.contains('\0') {
        return Err("Invalid cwd: it contains a NUL".to_owned());
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Environment variables.
///
/// # Errors
/// The text for the client if a name or a value is invalid.
pub fn env(value: &Value) -> Result<BTreeMap<String, String>, String> {
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

/// A timeout in milliseconds; a fraction is rounded up.
fn timeout(value: &Value) -> Result<Duration, String> {
    value
        .as_f64()
        .filter(|ms| *ms > 0.0)
        .and_then(|ms| Duration::try_from_secs_f64(ms.ceil() / 1000.0).ok())
        .ok_or_else(|| "Invalid timeout: it must be a positive number of milliseconds".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn invalid_options_are_refused_with_a_reason() {
        for invalid in [
            json!(0),
            json!(-1),
            json!("10"),
            json!(true),
            json!(1e300),
            json!([]),
        ] {
            assert!(timeout(&invalid).is_err(), "{invalid}");
        }
        assert_eq!(timeout(&json!(1500)), Ok(Duration::from_millis(1500)));
        assert_eq!(timeout(&json!(0.5)), Ok(Duration::from_millis(1)));
        for invalid in [
            json!([]),
            json!({"A": 1}),
            json!({"1A": "x"}),
            json!({"": "x"}),
            json!({"A": "\0"}),
        ] {
            assert!(env(&invalid).is_err(), "{invalid}");
        }
        assert!(cwd(&json!(5)).is_err());
        assert_eq!(cwd(&json!(" ")), Ok(None));
    }
}
