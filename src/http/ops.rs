//! What operators and probes ask: `/healthz`, `/readyz` and `/metrics`, on a
//! listener of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

/// What the process tells of itself.
pub struct Ops {
    /// Names of the parts that are not ready to work, such as caches that have
    /// not been filled yet.
    pub waiting_for: Box<dyn Fn() -> Vec<&'static str> + Send + Sync>,
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
        [] => (StatusCode::OK, "ok\n".to_owned()),
        waiting => {
            let text = format!("waiting for {}\n", waiting.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

async fn metrics(State(ops): State<Arc<Ops>>) -> impl IntoResponse {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, format)], (ops.metrics)())
}
