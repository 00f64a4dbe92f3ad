//! The responses of this contract.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use hutch_core::agent::AgentError;
use hutch_core::interfaces::ResourceError;
use hutch_service::ServiceError;

/// A success: `"status": "ok"` and `fields`.
pub fn ok(fields: Value) -> Response {
    let mut body = json!({"status": "ok"});
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    Json(body).into_response()
}

/// A failure: `{"error": text}`.
pub fn error(code: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({"error": text}))).into_response()
}

/// A failure of the service. The status is 503 if the same request may succeed later.
pub fn failure(failure: &ServiceError) -> Response {
    let code = match failure {
        ServiceError::Agent(AgentError::Invalid(_) | AgentError::Unsuitable(_)) => 400,
        ServiceError::Agent(AgentError::Denied(_)) => 403,
        ServiceError::Agent(AgentError::NotFound(_)) => 404,
        ServiceError::Agent(AgentError::Exists(_)) => 409,
        ServiceError::Agent(AgentError::Full(_)) => 507,
        ServiceError::Agent(AgentError::Unreachable(_) | AgentError::NoAgent(_))
        | ServiceError::Limit(_)
        | ServiceError::NotReady { .. }
        | ServiceError::Starting { .. }
        | ServiceError::Failed(_)
        | ServiceError::Suspended
        | ServiceError::Gone(_)
        | ServiceError::Resource(ResourceError::Unavailable(_)) => 503,
        _ => 500,
    };
    error(code, &failure.to_string())
}
