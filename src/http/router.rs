//! Which handler answers which path.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;

use super::metrics::{HttpMetrics, measure};
use super::{project, tenant};
use crate::service::Service;

/// Largest request body, in bytes: a file of 32 MiB as base64 in JSON, and room.
pub const MAX_BODY: usize = 48 << 20;

/// Both contracts over one service.
pub fn router(service: Arc<Service>, metrics: Arc<HttpMetrics>) -> Router {
    Router::new()
        .merge(project::routes())
        .merge(tenant::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(metrics, measure))
        .with_state(service)
}
