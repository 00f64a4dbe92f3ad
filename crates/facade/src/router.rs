//! The router of the facade: both contracts behind authentication.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde_json::json;
use tokio_util::sync::DropGuard;

use super::access::{AuthLayer, AuthSettings, RequestContext, audit, authenticate};
use super::metrics::{HttpMetrics, measure};
use super::{project, tenant};
use hutch_service::Service;

/// Largest request body, in bytes. A file of 32 MiB, as base64 in JSON, fits.
pub const MAX_BODY: usize = 48 << 20;

/// Both contracts behind authentication. `own` is the service of the facade's own
/// namespace. `others` creates the service of another namespace, with a guard that ends
/// its background work when it is dropped; its error is the text for a client that may
/// not use the namespace.
pub fn router(
    auth: AuthSettings,
    metrics: Arc<HttpMetrics>,
    own: Arc<Service>,
    others: impl Fn(&str) -> Result<(Arc<Service>, DropGuard), String> + Send + Sync + 'static,
) -> Router {
    let own = contracts(own, metrics.clone());
    let others = move |namespace: &str| {
        let (service, work) = others(namespace)?;
        Ok((contracts(service, metrics.clone()), work))
    };
    let layer = AuthLayer::new(auth, own, Box::new(others));
    Router::new().fallback(authenticate).with_state(layer)
}

fn contracts(service: Arc<Service>, metrics: Arc<HttpMetrics>) -> Router {
    Router::new()
        .merge(project::routes())
        .merge(tenant::routes())
        .layer(from_fn_with_state(service.clone(), wait_for_caches))
        .merge(project::health_route())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(audit))
        .layer(from_fn_with_state(metrics, measure))
        .with_state(service)
}

/// Delays requests until the caches have been filled once, so that none is answered
/// from partial data. The body of the failure suits both contracts. Refused requests do
/// not wait.
async fn wait_for_caches(
    State(service): State<Arc<Service>>,
    Extension(context): Extension<Arc<RequestContext>>,
    request: Request,
    next: Next,
) -> Response {
    if context.refusal.is_none()
        && let Err(error) = service.listed().await
    {
        let text = error.to_string();
        let body = json!({"data": {"error": text}, "error": text, "message": text, "code": 503});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    next.run(request).await
}
