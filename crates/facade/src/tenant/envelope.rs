//! The envelope of every answer: `{"data", "message", "code"}`, where `code` is
//! the HTTP status and a failure has its text in `data.error` and `message`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

/// The `data` of an answer.
#[derive(Debug, Default)]
pub struct Data(Map<String, Value>);

impl Data {
    /// Data about the sandbox with that id.
    pub fn of(id: &str) -> Self {
        Self::default().with("sandboxId", id)
    }

    /// With one more field, or another value of one.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// The answer of a success.
    pub fn ok(self) -> Response {
        self.answer(200, "ok")
    }

    /// The answer of a failure; `message` is also `data.error` where that has
    /// no text of its own.
    pub fn fail(mut self, code: u16, message: &str) -> Response {
        self.0.entry("error").or_insert_with(|| message.into());
        self.answer(code, message)
    }

    /// The answer with that status and message.
    pub fn answer(self, code: u16, message: &str) -> Response {
        answer(&self.0, code, message)
    }
}

/// An answer that ends the handling of a request early.
pub struct Refused(Box<Response>);

impl From<Response> for Refused {
    fn from(answer: Response) -> Self {
        Self(Box::new(answer))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The answer with any data, written straight from where it lies.
pub fn answer(data: &impl Serialize, code: u16, message: &str) -> Response {
    #[derive(Serialize)]
    struct Envelope<'a, D> {
        data: &'a D,
        message: &'a str,
        code: u16,
    }
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = status.as_u16();
    let body = Envelope {
        data,
        message,
        code,
    };
    (status, Json(body)).into_response()
}
