//! The project contract (`docs/project-api.md`): the body names a conversation,
//! a success is `{"status": "ok", …}`, a failure `{"error": "<text>"}`.

mod answer;
mod backends;
mod call;
mod conversations;
mod diagnostics;
mod execute;
mod files;
mod search;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use crate::access::{Contract, Visit, admit, fit};
use hutch_core::access::Scope;
use hutch_core::interfaces::Integration;
use hutch_service::Service;

/// The one route that everybody may ask.
pub fn health() -> Router<Arc<Service>> {
    Router::new().route("/health", only("GET", get(tell_health)))
}

/// The other routes of this contract.
pub fn routes() -> Router<Arc<Service>> {
    let contract = Contract {
        scope: Scope::Project,
        // The body names the conversation.
        subject: |_| None,
        failure: |code, text, _| answer::error(code, text),
    };
    Router::new()
        .route("/sessions", only("GET", get(conversations::list)))
        .route(
            "/sessions/cleanup",
            only("POST", post(conversations::end_all)),
        )
        .route("/session/{id}", only("DELETE", delete(conversations::end)))
        .route("/execute", only("POST", post(execute::execute)))
        .route("/file/read", only("POST", post(files::read)))
        .route("/file/write", only("POST", post(files::write)))
        .route("/file/list", only("POST", post(files::list)))
        .route("/file/edit", only("POST", post(files::edit)))
        .route("/file/grep", only("POST", post(search::grep)))
        .route("/file/glob", only("POST", post(search::glob)))
        .route("/file/tree", only("GET", get(search::tree)))
        .route("/diagnostic", only("POST", post(diagnostics::flat)))
        .route("/lsp/diagnostics", only("POST", post(diagnostics::lsp)))
        .route("/projects/create", only("POST", post(backends::create)))
        .route("/projects/delete", only("POST", post(backends::delete)))
        .route(
            "/projects/configure-domain",
            only("POST", post(backends::configure_domain)),
        )
        .layer(from_fn_with_state(contract, admit))
        .layer(from_fn_with_state(contract, fit))
}

/// `methods` alone, with an answer to the others that says so.
fn only(allowed: &'static str, methods: MethodRouter<Arc<Service>>) -> MethodRouter<Arc<Service>> {
    methods.fallback(move |method: Method, uri: Uri| async move {
        let text = format!("{method} is not allowed for {}, use {allowed}", uri.path());
        answer::error(405, &text)
    })
}

/// Always 200 while the process serves. What is wrong with the database is told to
/// those only who may use it.
async fn tell_health(
    State(service): State<Arc<Service>>,
    visit: Option<Extension<Arc<Visit>>>,
) -> Json<Value> {
    let mut health = json!({"status": "ok", "active_sessions": service.awake()});
    if visit.is_some_and(|visit| visit.may_see_projects()) {
        let database = service.database();
        health["database"] = json!({
            "state": match database.integration {
                Integration::Connected => "connected",
                Integration::Away | Integration::NotConfigured => "standalone",
            },
            "configured": database.integration != Integration::NotConfigured,
            "since": format!("{:.3}", database.since),
            "last_error": database.last_error,
        });
    }
    Json(health)
}
