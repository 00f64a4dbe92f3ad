//! `/health`.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::access::RequestContext;
use hutch_core::interfaces::Integration;
use hutch_service::Service;

/// `GET /health`: 200 for as long as the process serves. Only a client that may use
/// projects sees the state of their database.
pub async fn health(
    State(service): State<Arc<Service>>,
    context: Option<Extension<Arc<RequestContext>>>,
) -> Json<Value> {
    let mut health = json!({"status": "ok", "active_sessions": service.acquirer.awake()});
    if context.is_some_and(|context| context.may_see_projects()) {
        let database = service.projects.database();
        health["database"] = json!({
            "state": match database.integration {
                Integration::Connected => "connected",
                Integration::Away | Integration::NotConfigured => "standalone",
            },
            "configured": database.integration != Integration::NotConfigured,
            "since": format!("{:.3}", database.since),
            "last_error": database.last_error,
        });
    }
    Json(health)
}
