//! The extractor for requests of this contract: the sandbox ID, the body and the query.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;

use super::envelope::Data;
use super::sandbox_id::SandboxId;
use crate::body::{Fields, Query};
use hutch_core::exec::MAX_SESSION_ID_BYTES;

pub struct Call {
    /// The sandbox ID.
    pub id: String,
    pub body: Fields,
    query: Query,
}

impl Call {
    /// The data that every response contains: the sandbox ID.
    pub fn data(&self) -> Data {
        Data::of(&self.id)
    }

    /// A name from the body, or else from the query. It is trimmed; `None` if it is blank.
    pub fn name(&self, name: &str) -> Option<&str> {
        self.body.name(name).or_else(|| self.query.name(name))
    }

    /// The session ID of the request, under each of its two names. The body takes
    /// precedence over the query.
    pub fn session(&self) -> Option<&str> {
        let spellings = ["sessionId", "session_id"];
        let body = spellings.iter().find_map(|name| self.body.name(name));
        body.or_else(|| spellings.iter().find_map(|name| self.query.name(name)))
    }
}

/// True if a session ID is over [`MAX_SESSION_ID_BYTES`].
pub fn is_too_long(session: &str) -> bool {
    session.len() > MAX_SESSION_ID_BYTES
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let SandboxId(id) = SandboxId::from_request_parts(&mut parts, state).await?;
        let query = Query::read(parts.uri.query().unwrap_or_default());
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let body = body.map_err(|rejection| {
            let text = match rejection.status().as_u16() {
                413 => "The request body is too large",
                _ => "The request body broke off",
            };
            Data::of(&id).fail(rejection.status().as_u16(), text)
        })?;
        let body = Fields::read(&body);
        let call = Self { id, body, query };
        if call.session().is_some_and(is_too_long) {
            let text = format!("a session's id has 1 to {MAX_SESSION_ID_BYTES} bytes");
            return Err(call.data().fail(400, &text));
        }
        Ok(call)
    }
}
