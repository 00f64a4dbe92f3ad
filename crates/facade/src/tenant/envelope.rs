//! The envelope of all responses: `{"data", "message", "code"}`. `code` is the HTTP
//! status. A failure has its text in `data.error` and `message`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

/// The `data` of a response.
#[derive(Debug, Default)]
pub struct Data(Map<String, Value>);

impl Data {
    /// Data with the ID of the sandbox.
    pub fn of(id: &str) -> Self {
        Self::default().with("sandboxId", id)
    }

    /// Adds or replaces a field.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub fn ok(self) -> Response {
        self.answer(200, "ok")
    }

    /// A failure. `data.error` becomes `message` if it is not set.
    pub fn fail(mut self, code: u16, message: &str) -> Response {
        self.0.entry("error").or_insert_with(|| message.into());
        self.answer(code, message)
    }

    pub fn answer(self, code: u16, message: &str) -> Response {
        answer(&self.0, code, message)
    }
}

/// A failure response in the `Err` of a handler. It is boxed to keep the `Result` small.
pub struct ErrorResponse(Box<Response>);

impl From<Response> for ErrorResponse {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// A response with any `data`. It is serialized from borrowed values, without a copy.
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
