//! `/lifecycle`: creates and deletes sandboxes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::call::Call;
use super::result::ExecResult;
use crate::body::Fields;
use hutch_core::deadlines;
use hutch_core::exec::ExecRequest;
use hutch_service::{LifecycleChange, Service, ServiceError};

/// `POST /lifecycle`. The response is sent after a command has run in the sandbox.
pub async fn create(State(service): State<Arc<Service>>, call: Call) -> Response {
    let options = call.body.get("options").cloned().unwrap_or(Value::Null);
    let failed = || {
        call.data()
            .with("created", false)
            .with("initialized", false)
            .with("options", options.clone())
    };
    let (change, any_case) = match parse(&call.body.object("options")) {
        Ok(parsed) => parsed,
        Err(text) => return failed().fail(400, &text),
    };
    match initialize(&service, &call.id, any_case, &change).await {
        Ok(init) => call
            .data()
            .with("created", true)
            .with("initialized", true)
            .with("init", init)
            .with("options", options)
            .ok(),
        Err(error) => failed().fail(500, &error.to_string()),
    }
}

async fn initialize(
    service: &Service,
    id: &str,
    any_case: bool,
    change: &LifecycleChange,
) -> Result<Value, ServiceError> {
    let target = if any_case {
        service.acquirer.ensure_any_case(id, change).await?
    } else {
        service.acquirer.ensure(id, change).await?
    };
    let command = "echo ready";
    let request = ExecRequest::script(command, service.work.limits.max_output);
    let outcome = service.work.exec(&target, request).await?;
    Ok(json!(ExecResult::new(command, None, &outcome)))
}

/// The change in the options, and true if the sandbox ID is case-insensitive.
fn parse(options: &Fields) -> Result<(LifecycleChange, bool), String> {
    let flag = |name: &str| match options.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("Invalid {name}: it is true or false")),
    };
    let idle_timeout = options.get("sleepAfter").map(duration).transpose()?;
    let change = LifecycleChange {
        idle_timeout,
        keep_alive: flag("keepAlive")?,
    };
    Ok((change, flag("normalizeId")?.unwrap_or(false)))
}

/// Accepts `30s`, `10m` and `1h`, and seconds as a number or as a string of digits.
fn duration(value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if seconds { format!("{text}s") } else { text };
    deadlines::parse(&text)
        .map(deadlines::format)
        .ok_or_else(|| {
            "Invalid sleepAfter: it is a whole number with s, m or h, between 1s and 8760h"
                .to_owned()
        })
}

/// `DELETE /lifecycle`. It succeeds for a sandbox that does not exist.
pub async fn destroy(State(service): State<Arc<Service>>, call: Call) -> Response {
    match service
        .acquirer
        .destroy(&service.acquirer.tenant(&call.id))
        .await
    {
        Ok(_) => call.data().with("destroyed", true).ok(),
        Err(error) => call
            .data()
            .with("destroyed", false)
            .fail(500, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_after_is_a_number_with_a_unit_or_plain_seconds() {
        for (given, expected) in [
            (json!("30s"), "30s"),
            (json!("10m"), "10m"),
            (json!(" 1h "), "1h"),
            (json!("90"), "90s"),
            (json!(3600), "1h"),
        ] {
            assert_eq!(duration(&given).as_deref(), Ok(expected), "{given}");
        }
        for invalid in [
            json!(""),
            json!(-30),
            json!(1.5),
            json!("1d"),
            json!([]),
            json!(true),
        ] {
            assert!(duration(&invalid).is_err(), "{invalid}");
        }
    }
}
