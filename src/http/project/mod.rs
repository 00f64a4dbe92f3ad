//! The project contract (`docs/project-api.md`). Of its routes, this version
//! serves `/health`.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::service::Service;

/// The routes of this contract.
pub fn routes() -> Router<Arc<Service>> {
    Router::new().route("/health", get(health))
}

/// Always 200 while the process serves.
async fn health(State(service): State<Arc<Service>>) -> Json<Value> {
    Json(json!({"status": "ok", "active_sessions": service.awake()}))
}
