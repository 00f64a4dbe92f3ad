//! What operators and probes ask: `/healthz`, `/readyz` and `/metrics`, on a
//! listener of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::domain::interfaces::{DatabaseState, Integration};

/// What the process tells of itself.
pub struct Ops {
    /// Names of the parts that are not ready to work, such as caches that have
    /// not been filled yet.
    pub waiting_for: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// How it stands with the database, which nobody waits for; none for a role
    /// that has nothing to do with it.
    pub database: Option<Box<dyn Fn() -> DatabaseState + Send + Sync>>,
    /// All metrics in the OpenMetrics text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

/// The three routes.
pub fn router(ops: Arc<Ops>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

async fn ready(State(ops): State<Arc<Ops>>) -> (StatusCode, String) {
    match (ops.waiting_for)().as_slice() {
        [] => {
            let database = ops.database.as_ref();
            let database = database.map(|state| format!("database: {}\n", told(&state())));
            (
                StatusCode::OK,
                format!("ok\n{}", database.unwrap_or_default()),
            )
        }
        waiting => {
            let text = format!("waiting for {}\n", waiting.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

fn told(database: &DatabaseState) -> String {
    let since = &database.since;
    match (database.integration, &database.last_error) {
        (Integration::Connected, _) => format!("connected since {since:.0}"),
        (Integration::NotConfigured, _) => "none is configured".to_owned(),
        (Integration::Away, None) => format!("away since {since:.0}"),
        (Integration::Away, Some(error)) => format!("away since {since:.0}: {error}"),
    }
}

async fn metrics(State(ops): State<Arc<Ops>>) -> impl IntoResponse {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, format)], (ops.metrics)())
}
