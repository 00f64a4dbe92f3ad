//! `/file/*`: files of a conversation's sandbox. A relative path starts at its working
//! directory.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use super::call::Call;
use hutch_core::agent::AgentError;
use hutch_core::files::MAX_PATH_BYTES;
use hutch_service::{EditError, Occurrences, Place, Service, ServiceError};

/// The path in a field, not trimmed.
///
/// # Errors
/// The text for the client if the path is missing or invalid.
fn path<'a>(call: &'a Call, field: &str) -> Result<&'a str, String> {
    match call.text(field) {
        None => Err(format!("{field} is required")),
        Some(path) if path.contains('\0') => Err(format!("{field} contains a NUL")),
        Some(path) if path.len() > MAX_PATH_BYTES => {
            Err(format!("{field} is longer than {MAX_PATH_BYTES} bytes"))
        }
        Some(path) => Ok(path),
    }
}

/// The conversation's place and the path in `file_path`.
async fn file<'a>(service: &Service, call: &'a Call) -> Result<(Place, &'a str), String> {
    let conversation = call
        .conversation()
        .ok_or("session_id and file_path are required")?;
    let path = path(call, "file_path")?;
    Ok((service.projects.conversation(conversation).await, path))
}

/// `POST /file/read`.
pub async fn read(State(service): State<Arc<Service>>, call: Call) -> Response {
    let (place, path) = match file(&service, &call).await {
        Ok(file) => file,
        Err(text) => return answer::error(400, &text),
    };
    match service
        .work
        .read_file(&place.target, place.path(path))
        .await
    {
        Ok(content) => answer::ok(json!({"content": String::from_utf8_lossy(&content)})),
        Err(ServiceError::Agent(AgentError::Full(text))) => answer::error(413, &text),
        Err(error) => answer::failure(&error),
    }
}

/// `POST /file/write`.
pub async fn write(State(service): State<Arc<Service>>, call: Call) -> Response {
    let (place, path) = match file(&service, &call).await {
        Ok(file) => file,
        Err(text) => return answer::error(400, &text),
    };
    let Some(content) = call
        .body
        .get("content")
        .and_then(|content| content.as_str())
    else {
        return answer::error(400, "content is required");
    };
    let content = content.to_owned().into();
    match service
        .work
        .write_file(&place.target, place.path(path), &content)
        .await
    {
        Ok(()) => answer::ok(json!({"message": format!("File {path} written successfully")})),
        Err(error) => answer::failure(&error),
    }
}

/// `POST /file/list`: the names that `ls -1` prints. A missing directory counts as empty.
pub async fn list(State(service): State<Arc<Service>>, call: Call) -> Response {
    let Some(conversation) = call.conversation() else {
        return answer::error(400, "session_id is required");
    };
    let place = service.projects.conversation(conversation).await;
    let path = match call.text("path") {
        None => place.workdir.as_str(),
        Some(_) => match path(&call, "path") {
            Ok(path) => path,
            Err(text) => return answer::error(400, &text),
        },
    };
    match service
        .work
        .list_directory(&place.target, place.path(path))
        .await
    {
        Ok(names) => {
            let shown = names.iter().filter(|name| !name.starts_with(b"."));
            let shown: Vec<_> = shown.map(|name| String::from_utf8_lossy(name)).collect();
            answer::ok(json!({"files": shown}))
        }
        Err(ServiceError::Agent(AgentError::NotFound(_))) => answer::ok(json!({"files": []})),
        Err(error) => answer::failure(&error),
    }
}

/// `POST /file/edit`.
pub async fn edit(State(service): State<Arc<Service>>, call: Call) -> Response {
    let (place, path) = match file(&service, &call).await {
        Ok(file) => file,
        Err(text) => return answer::error(400, &text),
    };
    let text = |name: &str| call.body.get(name).and_then(|text| text.as_str());
    let (Some(old), Some(new)) = (text("old_string"), text("new_string")) else {
        return answer::error(400, "old_string and new_string are required");
    };
    let which = match call.body.get("replace_all").map(Value::as_bool) {
        None | Some(Some(false)) => Occurrences::First,
        Some(Some(true)) => Occurrences::All,
        Some(None) => return answer::error(400, "replace_all must be true or false"),
    };
    let edit = service
        .work
        .edit_file(&place.target, place.path(path), (old, new), which);
    match edit.await {
        Ok(()) => answer::ok(json!({"message": format!("File {path} edited successfully")})),
        Err(error @ EditError::NotFound(_)) => answer::error(400, &error.to_string()),
        Err(EditError::TooLarge(text)) => answer::error(413, &text),
        Err(EditError::Service(error)) => answer::failure(&error),
    }
}
