//! The extractor for requests of this contract.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::Response;

use super::answer;
use crate::access::RequestContext;
use crate::body::{Fields, Query};

const MAX_ID_BYTES: usize = 4096;
/// The fields to which [`MAX_ID_BYTES`] applies.
const ID_FIELDS: [&str; 4] = ["session_id", "project_id", "project_name", "container_id"];

pub struct Call {
    pub body: Fields,
    pub query: Query,
}

impl Call {
    /// The conversation in the body. An ID may be any text and is not trimmed.
    pub fn conversation(&self) -> Option<&str> {
        let id = self.body.get("session_id")?.as_str()?;
        (!id.trim().is_empty()).then_some(id)
    }

    /// The subject of the request: a conversation, a container or a project.
    fn subject(&self) -> Option<&str> {
        let project = || self.query.text("project_id");
        let named = ["session_id", "container_id", "project_name"];
        let body = named.iter().find_map(|name| self.text(name));
        body.or_else(|| self.query.text("session_id"))
            .or_else(project)
    }

    fn is_too_long(&self, name: &str) -> bool {
        let values = [self.text(name), self.query.text(name)];
        let mut values = values.into_iter().flatten();
        values.any(|text| text.len() > MAX_ID_BYTES)
    }

    /// A text of the body, not trimmed; `None` if it is missing or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.body.get(name)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }
}

fn too_long(name: &str) -> Response {
    answer::error(400, &format!("{name} is longer than {MAX_ID_BYTES} bytes"))
}

/// The response to a path with the ID of a conversation, if that is too long.
pub fn reject_long_id(id: &str) -> Option<Response> {
    (id.len() > MAX_ID_BYTES).then(|| too_long("session_id"))
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let query = Query::read(request.uri().query().unwrap_or_default());
        let context = request.extensions().get::<Arc<RequestContext>>().cloned();
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| {
            let text = "the request body is too large, or broke off";
            answer::error(rejection.status().as_u16(), text)
        })?;
        let body = Fields::read(&body);
        let call = Self { body, query };
        if let Some(name) = ID_FIELDS.iter().find(|name| call.is_too_long(name)) {
            return Err(too_long(name));
        }
        if let (Some(context), Some(subject)) = (context, call.subject()) {
            context.set_subject(subject);
        }
        Ok(call)
    }
}
