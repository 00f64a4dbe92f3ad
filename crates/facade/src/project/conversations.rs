//! `/sessions` and `/session/<id>`: the conversations with a sandbox of their own.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::answer;
use super::call::refusal;
use crate::access::Visit;
use hutch_service::Service;

/// `GET /sessions`.
pub async fn list(State(service): State<Arc<Service>>) -> Response {
    let ids = service.conversations();
    let count = ids.len();
    answer::ok(json!({"sessions": ids, "count": count}))
}

/// `POST /sessions/cleanup`.
pub async fn end_all(State(service): State<Arc<Service>>) -> Response {
    match service.end_conversations().await {
        Ok(ended) => answer::ok(json!({"message": format!("Cleaned up {ended} sessions")})),
        Err(error) => answer::failure(&error),
    }
}

/// `DELETE /session/<id>`.
pub async fn end(
    State(service): State<Arc<Service>>,
    Extension(visit): Extension<Arc<Visit>>,
    Path(id): Path<String>,
) -> Response {
    if let Some(refusal) = refusal(&id) {
        return refusal;
    }
    visit.about(&id);
    let told = |what: &str| answer::ok(json!({"message": format!("Session {id} {what}")}));
    match service.end_conversation(&id).await {
        Ok(true) => told("removed"),
        Ok(false) => told("not found"),
        Err(error) => answer::failure(&error),
    }
}
