//! A request of this contract, read.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::Response;

use super::answer;
use crate::http::body::{Fields, Query};

/// A request.
pub struct Call {
    /// The fields of its body.
    pub body: Fields,
    /// The parameters of its query.
    pub query: Query,
}

impl Call {
    /// The conversation that the body names; ids are any text, as they are.
    pub fn conversation(&self) -> Option<&str> {
        let id = self.body.get("session_id")?.as_str()?;
        (!id.trim().is_empty()).then_some(id)
    }

    /// A text of the body, byte for byte; none where it is missing or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.body.get(name)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let query = Query::read(request.uri().query().unwrap_or_default());
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| {
            let text = "the request body is too large, or broke off";
            answer::error(rejection.status().as_u16(), text)
        })?;
        let body = Fields::read(&body);
        Ok(Self { body, query })
    }
}
