//! The tenant contract (`docs/tenant-api.md`). The header `x-sandbox-id` names the
//! sandbox, and all responses have the same envelope.

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
use serde_json::json;

use crate::access::{Contract, authorize, reserve_response};
use crate::operations::{self, Handlers};
use envelope::Data;
use hutch_core::access::Scope;
use hutch_service::Service;
use sandbox_id::SandboxId;

operations::operations! {
    POST "/exec" => exec::exec,
    POST "/lifecycle" => lifecycle::create,
    DELETE "/lifecycle" => lifecycle::destroy,
    POST "/session" => session::create,
    DELETE "/session" => session::delete,
    POST "/session/exec" => exec::in_session,
    POST "/session/env" => session::set_env,
    GET "/api/session/list" => session::list,
    POST "/files/write" => files::write,
    GET "/files/read" => files::read,
    POST "/files/read" => files::read,
    POST "/files/mkdir" => files::make_directory,
    POST "/files/rename" => files::rename,
    POST "/files/move" => files::move_to,
    DELETE "/files/delete" => files::delete,
    POST "/files/delete" => files::delete,
    GET "/files/exists" => files::exists,
    POST "/files/exists" => files::exists,
    POST "/mount-bucket" => buckets::mount,
    DELETE "/unmount-bucket" => buckets::unmount,
    POST "/unmount-bucket" => buckets::unmount,
}

/// The routes of this contract, and its response to all other paths.
pub fn routes() -> Router<Arc<Service>> {
    let contract = Contract {
        scope: Scope::Tenant,
        subject: |headers| SandboxId::of(headers).ok().map(|SandboxId(id)| id),
        failure: |code, text, id| id.map_or_else(Data::default, Data::of).fail(code, text),
    };
    operations::router(operations(), refuse_others)
        .fallback(unknown_path)
        .layer(from_fn_with_state(contract, authorize))
        .layer(from_fn_with_state(contract, reserve_response))
}

/// Answers 405 to methods that `handlers` does not have.
fn refuse_others(handlers: Handlers, allowed: String) -> Handlers {
    handlers.fallback(
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

/// The contract answers 200 to a path that it does not define.
async fn unknown_path(SandboxId(id): SandboxId) -> Response {
    Data::of(&id).with("ok", json!(true)).ok()
}
