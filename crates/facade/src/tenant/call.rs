//! A request of this contract, read: whose sandbox, and the fields of its body
//! and its query.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;

use super::envelope::Data;
use super::sandbox_id::SandboxId;
use crate::body::{Fields, Query};

/// Longest id of a session, in bytes: agents take no longer one, and nobody is to
/// remember it until they say so.
const LONGEST_SESSION: usize = 512;

/// A request.
pub struct Call {
    /// The id in its header.
    pub id: String,
    /// The fields of its body.
    pub body: Fields,
    query: Query,
}

impl Call {
    /// The beginning of every answer.
    pub fn data(&self) -> Data {
        Data::of(&self.id)
    }

    /// A string that names something, from the body, else from the query:
    /// trimmed, and `None` where it is blank.
    pub fn name(&self, name: &str) -> Option<&str> {
        self.body.name(name).or_else(|| self.query.name(name))
    }

    /// The session that the request names, in any of the usual spellings.
    pub fn session(&self) -> Option<&str> {
        let spellings = ["sessionId", "session_id"];
        let body = spellings.iter().find_map(|name| self.body.name(name));
        body.or_else(|| spellings.iter().find_map(|name| self.query.name(name)))
    }
}

/// Whether no session can have that id.
pub fn is_too_long(session: &str) -> bool {
    session.len() > LONGEST_SESSION
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
            let text = format!("a session's id has 1 to {LONGEST_SESSION} bytes");
            return Err(call.data().fail(400, &text));
        }
        Ok(call)
    }
}
