//! The tenant contract (`docs/tenant-api.md`): a sandbox is named by the header
//! `x-sandbox-id`, every answer wears the same envelope.

mod buckets;
mod call;
mod envelope;
mod exec;
mod files;
mod lifecycle;
mod options;
mod result;
mod sandbox_id;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use serde_json::json;

use crate::access::{Contract, admit, fit};
use envelope::Data;
use hutch_core::access::Scope;
use hutch_service::Service;
use sandbox_id::SandboxId;

/// The routes of this contract, and its answer to every other path.
pub fn routes() -> Router<Arc<Service>> {
    let contract = Contract {
        scope: Scope::Tenant,
        subject: |headers| SandboxId::of(headers).ok().map(|SandboxId(id)| id),
        failure: |code, text, id| id.map_or_else(Data::default, Data::of).fail(code, text),
    };
    Router::new()
        .route("/exec", only("POST", post(exec::exec)))
        .route(
            "/lifecycle",
            only(
                "POST, DELETE",
                post(lifecycle::create).delete(lifecycle::destroy),
            ),
        )
        .route(
            "/session",
            only(
                "POST, DELETE",
                post(session::create).delete(session::delete),
            ),
        )
        .route("/session/exec", only("POST", post(exec::in_session)))
        .route("/session/env", only("POST", post(session::set_env)))
        .route("/api/session/list", only("GET", get(session::list)))
        .route("/files/write", only("POST", post(files::write)))
        .route(
            "/files/read",
            only("GET, POST", get(files::read).post(files::read)),
        )
        .route("/files/mkdir", only("POST", post(files::make_folder)))
        .route("/files/rename", only("POST", post(files::rename)))
        .route("/files/move", only("POST", post(files::move_to)))
        .route(
            "/files/delete",
            only("DELETE, POST", delete(files::delete).post(files::delete)),
        )
        .route(
            "/files/exists",
            only("GET, POST", get(files::exists).post(files::exists)),
        )
        .route("/mount-bucket", only("POST", post(buckets::mount)))
        .route(
            "/unmount-bucket",
            only(
                "DELETE, POST",
                delete(buckets::unmount).post(buckets::unmount),
            ),
        )
        .fallback(other)
        .layer(from_fn_with_state(contract, admit))
        .layer(from_fn_with_state(contract, fit))
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
