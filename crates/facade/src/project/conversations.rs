//! `/sessions` and `/session/<id>`: conversations that have their own sandbox.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::answer;
use super::call::reject_long_id;
use crate::access::RequestContext;
use hutch_service::Service;

/// `GET /sessions`.
pub async fn list(State(service): State<Arc<Service>>) -> Response {
    let ids = service.projects.conversations();
    let count = ids.len();
    answer::ok(json!({"sessions": ids, "count": count}))
}

/// `POST /sessions/cleanup`.
pub async fn end_all(State(service): State<Arc<Service>>) -> Response {
    match service.projects.end_conversations().await {
        Ok(ended) => answer::ok(json!({"message": format!("Cleaned up {ended} sessions")})),
        Err(error) => answer::failure(&error),
    }
}

/// `DELETE /session/<id>`.
pub async fn end(
    State(service): State<Arc<Service>>,
    Extension(context): Extension<Arc<RequestContext>>,
    Path(id): Path<String>,
) -> Response {
    if let Some(refusal) = reject_long_id(&id) {
        return refusal;
    }
    context.set_subject(&id);
    let result = |text: &str| answer::ok(json!({"message": format!("Session {id} {text}")}));
    match service.projects.end_conversation(&id).await {
        Ok(true) => result("removed"),
        Ok(false) => result("not found"),
        Err(error) => answer::failure(&error),
    }
}
