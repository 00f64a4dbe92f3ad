//! `/execute`: runs code in one of the image's languages.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use super::call::Call;
use hutch_core::agent::AgentError;
use hutch_service::{LanguageError, Service, ServiceError};

/// `POST /execute`. Code that fails is still a success of this route.
pub async fn execute(State(service): State<Arc<Service>>, call: Call) -> Response {
    let (Some(conversation), Some(command)) = (call.conversation(), call.text("command")) else {
        return answer::error(400, "session_id and command are required");
    };
    let timeout = match call.body.get("timeout").map(timeout).transpose() {
        Ok(timeout) => timeout.flatten(),
        Err(text) => return answer::error(400, text),
    };
    let directory = call.body.name("working_dir");
    if directory.is_some_and(|directory| directory.contains('\0')) {
        return answer::error(400, "working_dir contains a NUL");
    }
    let language = call.body.name("language").unwrap_or("bash");
    let place = service.projects.conversation(conversation).await;
    let toolchains = &service.toolchains;
    let run = toolchains.run_code(&place, language, command, directory, timeout);
    match run.await {
        Ok(outcome) => answer::ok(json!({
            "stdout": String::from_utf8_lossy(&outcome.stdout),
            "stderr": String::from_utf8_lossy(&outcome.stderr),
            "exit_code": outcome.exit_code,
        })),
        Err(error @ LanguageError::Unsupported(..)) => answer::error(400, &error.to_string()),
        // The sandbox is at fault, not the request: it cannot start any process.
        Err(LanguageError::Service(ServiceError::Agent(error @ AgentError::CannotStart(_)))) => {
            answer::error(500, &error.to_string())
        }
        Err(LanguageError::Service(error)) => answer::failure(&error),
    }
}

/// A timeout in seconds; `None` if it is 0, which a Go client sends for an unset field.
fn timeout(value: &Value) -> Result<Option<Duration>, &'static str> {
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match time {
        Some(time) => Ok((!time.is_zero()).then_some(time)),
        None => Err("timeout must be a positive number of seconds"),
    }
}
