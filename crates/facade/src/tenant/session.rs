//! `/session`, `/session/env` and `/api/session/list`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};

use super::call::{Call, is_too_long};
use super::envelope::{self, Data};
use super::options::{cwd, env};
use super::result::now;
use crate::body::Fields;
use hutch_core::agent::AgentError;
use hutch_core::exec::MAX_SESSION_ID_BYTES;
use hutch_core::interfaces::NewSession;
use hutch_service::{Service, ServiceError};

/// `POST /session`.
pub async fn create(State(service): State<Arc<Service>>, call: Call) -> Response {
    let nested = call.body.object("session");
    let fields = if nested.is_empty() {
        &call.body
    } else {
        &nested
    };
    let Some(id) = fields.name("id").or_else(|| call.session()) else {
        return call.data().fail(
            400,
            "Missing session id. Provide session.id in body or session_id in query",
        );
    };
    let data = || call.data().with("sessionId", id);
    let session = match parse(id, fields) {
        Ok(session) => session,
        Err(text) => return data().with("created", false).fail(400, &text),
    };
    match service
        .sessions
        .open(&service.acquirer.tenant(&call.id), session)
        .await
    {
        Ok(()) => data()
            .with("created", true)
            .with("options", options(id, fields))
            .ok(),
        Err(ServiceError::Agent(AgentError::Exists(_))) => data()
            .with("created", false)
            .with("exists", true)
            .fail(409, "Session already exists"),
        Err(error) => failed(data().with("created", false), &error),
    }
}

fn parse(id: &str, fields: &Fields) -> Result<NewSession, String> {
    if is_too_long(id) {
        return Err(format!(
            "the id is too long: at most {MAX_SESSION_ID_BYTES} bytes"
        ));
    }
    Ok(NewSession {
        id: id.to_owned(),
        cwd: fields.get("cwd").map(cwd).transpose()?.flatten(),
        env: fields.get("env").map(env).transpose()?.unwrap_or_default(),
        ..NewSession::default()
    })
}

/// The session's ID and options as they were sent.
fn options(id: &str, fields: &Fields) -> Value {
    let mut options = Map::new();
    options.insert("id".to_owned(), id.into());
    for name in ["env", "cwd"] {
        if let Some(value) = fields.get(name) {
            options.insert(name.to_owned(), value.clone());
        }
    }
    options.into()
}

/// `DELETE /session`. The session `default` always exists, so it starts anew.
pub async fn delete(State(service): State<Arc<Service>>, call: Call) -> Response {
    let Some(id) = call.session() else {
        let text = "Missing session id. Provide session_id query param";
        return call.data().fail(400, text);
    };
    let data = || call.data().with("sessionId", id);
    match service
        .sessions
        .close(&service.acquirer.tenant(&call.id), id)
        .await
    {
        Ok(()) => data().with("success", true).with("timestamp", now()).ok(),
        Err(ServiceError::Agent(AgentError::NotFound(_))) => data()
            .with("deleted", false)
            .with("exists", false)
            .fail(404, "Session not found"),
        Err(error) => failed(data().with("deleted", false), &error),
    }
}

/// `POST /session/env`.
pub async fn set_env(State(service): State<Arc<Service>>, call: Call) -> Response {
    let id = call.session().unwrap_or("default");
    let data = || call.data().with("sessionId", id);
    let spellings = ["envVars", "env_vars", "env"];
    let Some(given) = spellings.iter().find_map(|name| call.body.get(name)) else {
        return data().fail(400, "Missing envVars. Provide envVars in JSON body");
    };
    let strings = given
        .as_object()
        .is_some_and(|record| record.values().all(Value::is_string));
    if !strings {
        let text = "envVars must be a record of string to string";
        return data()
            .with("error", text)
            .fail(400, "Invalid envVars format");
    }
    let variables = match env(given) {
        Ok(variables) => variables,
        Err(text) => return data().fail(400, &text),
    };
    let target = service.acquirer.tenant(&call.id);
    match service.sessions.set_variables(&target, id, variables).await {
        Ok(created) => {
            let data = data().with("envVars", given.clone()).with("set", true);
            if created {
                data.with("sessionCreated", true).ok()
            } else {
                data.ok()
            }
        }
        Err(error) => failed(data().with("set", false), &error),
    }
}

/// `GET /api/session/list`.
pub async fn list(State(service): State<Arc<Service>>, call: Call) -> Response {
    match service
        .sessions
        .ids(&service.acquirer.tenant(&call.id))
        .await
    {
        Ok(ids) => envelope::answer(&ids, 200, "ok"),
        Err(error) => failed(call.data(), &error),
    }
}

fn failed(data: Data, error: &ServiceError) -> Response {
    let code = match error {
        ServiceError::Agent(AgentError::Invalid(_)) => 400,
        ServiceError::Agent(AgentError::Full(_)) => 429,
        _ => 500,
    };
    data.fail(code, &error.to_string())
}
