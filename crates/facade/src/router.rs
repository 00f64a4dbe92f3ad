//! Which handler answers which path.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde_json::json;
use tokio_util::sync::DropGuard;

use super::access::{Gate, GateSettings, Visit, audit, enter};
use super::metrics::{HttpMetrics, measure};
use super::{project, tenant};
use hutch_service::Service;

/// Largest request body, in bytes: a file of 32 MiB as base64 in JSON, and room.
pub const MAX_BODY: usize = 48 << 20;

/// Both contracts behind the gate: over `home` for the facade's own namespace, and
/// over what `others` makes for another, or says why it does not.
pub fn router(
    gate: GateSettings,
    metrics: Arc<HttpMetrics>,
    home: Arc<Service>,
    others: impl Fn(&str) -> Result<(Arc<Service>, DropGuard), String> + Send + Sync + 'static,
) -> Router {
    let home = contracts(home, metrics.clone());
    let others = move |namespace: &str| {
        let (service, work) = others(namespace)?;
        Ok((contracts(service, metrics.clone()), work))
    };
    let gate = Gate::new(gate, home, Box::new(others));
    Router::new().fallback(enter).with_state(gate)
}

/// Both contracts over one service.
fn contracts(service: Arc<Service>, metrics: Arc<HttpMetrics>) -> Router {
    Router::new()
        .merge(project::routes())
        .merge(tenant::routes())
        .layer(from_fn_with_state(service.clone(), listed))
        .merge(project::health_route())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(audit))
        .layer(from_fn_with_state(metrics, measure))
        .with_state(service)
}

/// Nobody who is let in is answered from caches that have not been filled. The
/// failure is one in both contracts.
async fn listed(
    State(service): State<Arc<Service>>,
    Extension(visit): Extension<Arc<Visit>>,
    request: Request,
    next: Next,
) -> Response {
    if visit.refusal.is_none()
        && let Err(error) = service.listed().await
    {
        let why = error.to_string();
        let body = json!({"data": {"error": why}, "error": why, "message": why, "code": 503});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    next.run(request).await
}
