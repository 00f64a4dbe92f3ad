//! `/exec` and `/session/exec`: run one command. A command that fails is still a success
//! of the route.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::call::Call;
use super::envelope::Data;
use super::options::ExecOptions;
use super::result::{ExecResult, answer};
use hutch_core::agent::AgentError;
use hutch_service::{Service, ServiceError};

/// `POST /exec`.
pub async fn exec(State(service): State<Arc<Service>>, call: Call) -> Response {
    run(&service, &call, None).await
}

/// `POST /session/exec`. A missing session is created.
pub async fn in_session(State(service): State<Arc<Service>>, call: Call) -> Response {
    match call.session() {
        Some(session) => run(&service, &call, Some(session)).await,
        None => call.data().fail(
            400,
            "Missing session id. Provide session_id in query or sessionId/session_id in body",
        ),
    }
}

async fn run(service: &Service, call: &Call, session: Option<&str>) -> Response {
    let data = || match session {
        Some(session) => call.data().with("sessionId", session),
        None => call.data(),
    };
    let Some(command) = call.body.name("command") else {
        return data().fail(400, "Missing command. Provide command in JSON body");
    };
    let data = || data().with("command", command);
    let options = match ExecOptions::parse(&call.body) {
        Ok(options) => options,
        Err(text) => return data().fail(400, &text),
    };
    let timeout = options.timeout;
    let mut request = options.request(command, service.work.limits.max_output);
    request.session = session.map(str::to_owned);
    let target = service.acquirer.tenant(&call.id);
    match service.work.exec(&target, request).await {
        Ok(outcome) => {
            let mut result = ExecResult::new(command, timeout, &outcome);
            if let Some(session) = session {
                result = result.of_session(session);
            }
            answer(&call.id, &result)
        }
        Err(error) => exec_failure(data(), &error),
    }
}

fn exec_failure(data: Data, error: &ServiceError) -> Response {
    let text = error.to_string();
    match error {
        ServiceError::Agent(AgentError::Invalid(_)) => data.fail(400, &text),
        ServiceError::Agent(AgentError::Full(_)) => data.fail(429, &text),
        _ => data.with("type", "execution_error").fail(500, &text),
    }
}
