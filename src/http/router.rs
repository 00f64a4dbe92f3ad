//! Which handler answers which path.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio_util::sync::DropGuard;

use super::access::{Gate, GateSettings, audit, enter};
use super::metrics::{HttpMetrics, measure};
use super::{project, tenant};
use crate::service::Service;

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
        .merge(project::health())
        .merge(project::routes())
        .merge(tenant::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(audit))
        .layer(from_fn_with_state(metrics, measure))
        .with_state(service)
}
