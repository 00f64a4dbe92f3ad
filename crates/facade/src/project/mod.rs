//! The project contract (`docs/project-api.md`). The body names a conversation. A
//! success is `{"status": "ok", …}`, a failure is `{"error": "<text>"}`.

mod answer;
mod backends;
mod call;
mod conversations;
mod diagnostics;
mod execute;
mod files;
mod health;
mod search;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;

use crate::access::{Contract, authorize, reserve_response};
use crate::operations::{self, Handlers, Operation};
use hutch_core::access::Scope;
use hutch_service::Service;

/// The only path that needs no credential.
const HEALTH: &str = "/health";

operations::operations! {
    GET "/health" => health::health,
    GET "/sessions" => conversations::list,
    POST "/sessions/cleanup" => conversations::end_all,
    DELETE "/session/{id}" => conversations::end,
    POST "/execute" => execute::execute,
    POST "/file/read" => files::read,
    POST "/file/write" => files::write,
    POST "/file/list" => files::list,
    POST "/file/edit" => files::edit,
    POST "/file/grep" => search::grep,
    POST "/file/glob" => search::glob,
    GET "/file/tree" => search::tree,
    POST "/diagnostic" => diagnostics::flat,
    POST "/lsp/diagnostics" => diagnostics::lsp,
    POST "/projects/create" => backends::create,
    POST "/projects/delete" => backends::delete,
    POST "/projects/configure-domain" => backends::configure_domain,
}

/// The route that any client may use.
pub fn health_route() -> Router<Arc<Service>> {
    operations::router(operations().into_iter().filter(is_health), refuse_others)
}

/// All other routes of this contract.
pub fn routes() -> Router<Arc<Service>> {
    let contract = Contract {
        scope: Scope::Project,
        // The body names the conversation, and it has not been read yet.
        subject: |_| None,
        failure: |code, text, _| answer::error(code, text),
    };
    let protected = operations().into_iter().filter(|it| !is_health(it));
    operations::router(protected, refuse_others)
        .layer(from_fn_with_state(contract, authorize))
        .layer(from_fn_with_state(contract, reserve_response))
}

fn is_health(operation: &Operation) -> bool {
    operation.path == HEALTH
}

/// Answers 405 to methods that `handlers` does not have.
fn refuse_others(handlers: Handlers, allowed: String) -> Handlers {
    handlers.fallback(move |method: Method, uri: Uri| async move {
        let text = format!("{method} is not allowed for {}, use {allowed}", uri.path());
        answer::error(405, &text)
    })
}
