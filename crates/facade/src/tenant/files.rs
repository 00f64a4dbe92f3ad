//! `/files/*`. JSON carries the content as text or as base64.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::call::Call;
use super::envelope::{self, Data, ErrorResponse};
use hutch_core::agent::AgentError;
use hutch_core::files::MAX_PATH_BYTES;
use hutch_service::{Base, ClientPath, Service, ServiceError};

type HandlerResult = Result<Response, ErrorResponse>;

/// Accepts base64 with and without padding, as encoders differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The encoding of content in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Text,
    Base64,
}

impl Encoding {
    /// The encoding that the request asks for, if any.
    fn parse(call: &Call) -> Result<Option<Self>, ErrorResponse> {
        match call.name("encoding") {
            None => Ok(None),
            Some("utf-8" | "utf8") => Ok(Some(Self::Text)),
            Some("base64") => Ok(Some(Self::Base64)),
            Some(_) => {
                let text = "Invalid encoding: it is utf-8 or base64";
                Err(call.data().fail(400, text).into())
            }
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Text => "utf-8",
            Self::Base64 => "base64",
        }
    }
}

/// The path in a field. A relative path starts at the session's working directory.
fn path<'a>(call: &'a Call, field: &str) -> Result<ClientPath<'a>, ErrorResponse> {
    let Some(path) = call.name(field) else {
        return Err(call.data().fail(400, &format!("Missing {field}")).into());
    };
    let problem = if path.contains('\0') {
        Some("it contains a NUL".to_owned())
    } else {
        (path.len() > MAX_PATH_BYTES).then(|| format!("it is longer than {MAX_PATH_BYTES} bytes"))
    };
    if let Some(problem) = problem {
        let text = format!("Invalid {field}: {problem}");
        return Err(call.data().fail(400, &text).into());
    }
    let base = Base::Session(call.session().unwrap_or("default"));
    Ok(ClientPath { path, base })
}

/// `POST /files/write`.
pub async fn write(State(service): State<Arc<Service>>, mut call: Call) -> HandlerResult {
    let content = call.body.take("content");
    let path = path(&call, "path")?;
    let data = || call.data().with("path", path.path);
    let Some(Value::String(content)) = content else {
        return Ok(data().fail(400, "Missing content"));
    };
    let encoding = Encoding::parse(&call)?.unwrap_or(Encoding::Text);
    let content = match encoding {
        Encoding::Text => Bytes::from(content),
        Encoding::Base64 => match decode(&content) {
            Ok(content) => content,
            Err(text) => return Ok(data().fail(400, &text)),
        },
    };
    Ok(
        match service
            .work
            .write_file(&service.acquirer.tenant(&call.id), path, &content)
            .await
        {
            Ok(()) => data()
                .with("written", true)
                .with("encoding", encoding.name())
                .ok(),
            Err(error) => failed(data().with("written", false), &error),
        },
    )
}

fn decode(content: &str) -> Result<Bytes, String> {
    let decoded = if content.bytes().any(|byte| byte.is_ascii_whitespace()) {
        let lines: String = content.split_ascii_whitespace().collect();
        BASE64.decode(lines)
    } else {
        BASE64.decode(content)
    };
    decoded
        .map(Bytes::from)
        .map_err(|error| format!("Invalid content: it is not base64: {error}"))
}

/// `GET` and `POST /files/read`.
pub async fn read(State(service): State<Arc<Service>>, call: Call) -> HandlerResult {
    let path = path(&call, "path")?;
    let wanted = Encoding::parse(&call)?;
    let data = || call.data().with("path", path.path);
    Ok(
        match service
            .work
            .read_file(&service.acquirer.tenant(&call.id), path)
            .await
        {
            Ok(content) => content_answer(&call.id, path.path, &content, wanted),
            Err(ServiceError::Agent(AgentError::NotFound(_))) => {
                data().with("exists", false).fail(404, "File not found")
            }
            Err(ServiceError::Agent(AgentError::Full(text))) => data().fail(413, &text),
            Err(error) => failed(data(), &error),
        },
    )
}

fn content_answer(id: &str, path: &str, content: &[u8], wanted: Option<Encoding>) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        sandbox_id: &'a str,
        path: &'a str,
        content: &'a str,
        encoding: &'static str,
    }
    let respond = |content: &str, encoding: Encoding| {
        let data = Data {
            sandbox_id: id,
            path,
            content,
            encoding: encoding.name(),
        };
        envelope::answer(&data, 200, "ok")
    };
    match (wanted, std::str::from_utf8(content)) {
        (None | Some(Encoding::Text), Ok(text)) => respond(text, Encoding::Text),
        (Some(Encoding::Text), Err(_)) => {
            respond(&String::from_utf8_lossy(content), Encoding::Text)
        }
        _ => respond(&BASE64.encode(content), Encoding::Base64),
    }
}

/// `POST /files/mkdir`.
pub async fn make_directory(State(service): State<Arc<Service>>, call: Call) -> HandlerResult {
    let path = path(&call, "path")?;
    let recursive = match call.body.get("recursive") {
        None => false,
        Some(Value::Bool(recursive)) => *recursive,
        Some(_) => {
            let text = "Invalid recursive: it is true or false";
            return Ok(call.data().fail(400, text));
        }
    };
    let data = || call.data().with("path", path.path);
    Ok(
        match service
            .work
            .make_directory(&service.acquirer.tenant(&call.id), path, recursive)
            .await
        {
            Ok(()) => data()
                .with("created", true)
                .with("recursive", recursive)
                .ok(),
            Err(error) => failed(data().with("created", false), &error),
        },
    )
}

/// `POST /files/rename`.
pub async fn rename(State(service): State<Arc<Service>>, call: Call) -> HandlerResult {
    change_path(&service, &call, ["oldPath", "newPath"], "renamed").await
}

/// `POST /files/move`: a rename with other field names.
pub async fn move_to(State(service): State<Arc<Service>>, call: Call) -> HandlerResult {
    change_path(&service, &call, ["sourcePath", "destPath"], "moved").await
}

async fn change_path(
    service: &Service,
    call: &Call,
    fields: [&str; 2],
    done: &str,
) -> HandlerResult {
    let [old, new] = [path(call, fields[0])?, path(call, fields[1])?];
    let data = || {
        let data = call.data().with(fields[0], old.path);
        data.with(fields[1], new.path)
    };
    Ok(
        match service
            .work
            .rename(&service.acquirer.tenant(&call.id), old, new)
            .await
        {
            Ok(()) => data().with(done, true).ok(),
            Err(ServiceError::Agent(AgentError::NotFound(text))) => data()
                .with(done, false)
                .with("error", text)
                .fail(404, "File not found"),
            Err(error) => failed(data().with(done, false), &error),
        },
    )
}

/// `DELETE` and `POST /files/delete`.
pub async fn delete(State(service): State<Arc<Service>>, call: Call) -> HandlerResult {
    let path = path(&call, "path")?;
    let data = || call.data().with("path", path.path);
    Ok(
        match service
            .work
            .delete_file(&service.acquirer.tenant(&call.id), path)
            .await
        {
            Ok(()) => data().with("deleted", true).ok(),
            Err(ServiceError::Agent(AgentError::NotFound(_))) => data()
                .with("deleted", false)
                .with("exists", false)
                .fail(404, "File not found"),
            Err(error) => failed(data().with("deleted", false), &error),
        },
    )
}

/// `GET` and `POST /files/exists`.
pub async fn exists(State(service): State<Arc<Service>>, call: Call) -> HandlerResult {
    let path = path(&call, "path")?;
    let data = call.data().with("path", path.path);
    Ok(
        match service
            .work
            .path_exists(&service.acquirer.tenant(&call.id), path)
            .await
        {
            Ok(exists) => data.with("exists", exists).ok(),
            Err(error) => failed(data, &error),
        },
    )
}

fn failed(data: Data, error: &ServiceError) -> Response {
    let code = match error {
        ServiceError::Agent(AgentError::Invalid(_) | AgentError::Unsuitable(_)) => 400,
        ServiceError::Agent(AgentError::Denied(_)) => 403,
        ServiceError::Agent(AgentError::NotFound(_)) => 404,
        ServiceError::Agent(AgentError::Exists(_)) => 409,
        ServiceError::Agent(AgentError::Full(_)) => 507,
        _ => 500,
    };
    data.fail(code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_accepted_as_encoders_write_it() {
        for text in ["AAEC/w==", "AAEC/w", "AAEC\n/w==\n", " AAEC/w== "] {
            assert_eq!(decode(text).as_deref(), Ok(&[0, 1, 2, 255][..]), "{text:?}");
        }
        assert_eq!(decode("").as_deref(), Ok(&[][..]));
        for invalid in ["A", "AAEC_w==", "a=b", "é"] {
            assert!(decode(invalid).is_err(), "{invalid}");
        }
    }
}
