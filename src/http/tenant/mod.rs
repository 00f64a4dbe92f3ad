//! The tenant contract (`docs/tenant-api.md`): a sandbox is named by the header
//! `x-sandbox-id`, every answer wears the same envelope.

mod envelope;
mod exec;
mod lifecycle;
mod sandbox_id;

use std::sync::Arc;

use axum::Router;

use axum::http::{Method, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, post};
use serde_json::json;

use crate::service::Service;
use envelope::Data;
use sandbox_id::SandboxId;

/// The routes of this contract, and its answer to every other path.
pub fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/exec", only("POST", post(exec::exec)))
        .route(
            "/lifecycle",
            only(
                "POST, DELETE",
                post(lifecycle::create).merge(delete(lifecycle::destroy)),
            ),
        )
        .fallback(other)
}

/// `methods` alone, with the contract's answer to the others.
fn only(allowed: &'static str, methods: MethodRouter<Arc<Service>>) -> MethodRouter<Arc<Service>> {
    methods.fallback(
        move |method: Method, uri: Uri, SandboxId(id): SandboxId| async move {
            Data::of(&id)
                .with(
                    "error",
                    format!("{method} is not allowed for {}, use {allowed}", uri.path()),
                )
                .fail(405, "Method Not Allowed")
        },
    )
}

/// A path outside the contract.
async fn other(SandboxId(id): SandboxId) -> Response {
    Data::of(&id).with("ok", json!(true)).ok()
}
