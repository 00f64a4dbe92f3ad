//! `/projects/*`: creates and deletes sandboxes of projects and exposes their ports.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::answer;
use super::call::Call;
use hutch_service::{BackendError, Service};

/// `POST /projects/create`.
pub async fn create(State(service): State<Arc<Service>>, call: Call) -> Response {
    let Some(name) = call.body.name("project_name") else {
        return answer::error(400, "project_name is required");
    };
    let language = call.body.name("backend_language");
    let backend = match service.backends.create(name, language).await {
        Ok(backend) => backend,
        Err(error) => return failed(&error),
    };
    let needs_database = call
        .body
        .get("need_database")
        .and_then(|need| need.as_bool());
    let mut message = format!("Project {name} created");
    if needs_database == Some(true) {
        message += "; a database is not part of it";
    }
    let mut fields = json!({
        "container_id": backend.id,
        "container_name": backend.name,
        "image": backend.image,
        "workdir": backend.workdir,
        "frontend_port": backend.ports.first(),
        "message": message,
    });
    if language.is_some() {
        fields["backend_port"] = json!(backend.ports.get(1));
    }
    answer::ok(fields)
}

/// `POST /projects/delete`. It succeeds for a sandbox that does not exist, and for one
/// that belongs to no project, which stays.
pub async fn delete(State(service): State<Arc<Service>>, call: Call) -> Response {
    let Some(container) = call.body.name("container_id") else {
        return answer::error(400, "container_id is required");
    };
    match service.backends.delete(container).await {
        Ok(true) => answer::ok(json!({"message": format!("Project {container} deleted")})),
        Ok(false) => {
            let message = format!("{container} was not made for a project and stays");
            answer::ok(json!({"message": message}))
        }
        Err(error) => failed(&error),
    }
}

/// `POST /projects/configure-domain`.
pub async fn configure_domain(State(service): State<Arc<Service>>, call: Call) -> Response {
    let fields = ["container_id", "subdomain", "domain"].map(|name| call.body.name(name));
    let [Some(container), Some(subdomain), Some(domain)] = fields else {
        return answer::error(
            400,
            "container_id, subdomain, frontend_port and domain are required",
        );
    };
    let port = call
        .body
        .get("frontend_port")
        .and_then(|port| port.as_u64());
    let Some(port) = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
    else {
        return answer::error(400, "frontend_port must be a port's number");
    };
    let routed = service.backends.route(container, (subdomain, domain), port);
    match routed.await {
        Ok(host) => {
            let message = format!("{host} leads to port {port}");
            answer::ok(json!({"subdomain": host, "message": message}))
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &BackendError) -> Response {
    match error {
        BackendError::Language(..) | BackendError::Domain(_) | BackendError::NotFound(_) => {
            answer::error(400, &error.to_string())
        }
        BackendError::Service(error) => answer::failure(error),
    }
}
