//! A request of this contract, read.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::Response;

use super::answer;
use crate::access::Visit;
use crate::body::{Fields, Query};

/// Bytes of the longest id or name.
const LONGEST: usize = 4096;
/// The fields that have one.
const NAMES: [&str; 4] = ["session_id", "project_id", "project_name", "container_id"];

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

    /// What the request is about: a conversation, a project or a container.
    fn subject(&self) -> Option<&str> {
        let project = || self.query.text("project_id");
        let named = ["session_id", "container_id", "project_name"];
        let body = named.iter().find_map(|name| self.text(name));
        body.or_else(|| self.query.text("session_id"))
            .or_else(project)
    }

    fn too_long(&self, name: &str) -> bool {
        let said = [self.text(name), self.query.text(name)];
        said.into_iter().flatten().any(|text| text.len() > LONGEST)
    }

    /// A text of the body, byte for byte; none where it is missing or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.body.get(name)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }
}

fn too_long(name: &str) -> Response {
    answer::error(400, &format!("{name} is longer than {LONGEST} bytes"))
}

/// The refusal of a conversation that a path names, if its id is too long.
pub fn refusal(id: &str) -> Option<Response> {
    (id.len() > LONGEST).then(|| too_long("session_id"))
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let query = Query::read(request.uri().query().unwrap_or_default());
        let visit = request.extensions().get::<Arc<Visit>>().cloned();
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| {
            let text = "the request body is too large, or broke off";
            answer::error(rejection.status().as_u16(), text)
        })?;
        let body = Fields::read(&body);
        let call = Self { body, query };
        if let Some(name) = NAMES.iter().find(|name| call.too_long(name)) {
            return Err(too_long(name));
        }
        if let (Some(visit), Some(subject)) = (visit, call.subject()) {
            visit.about(subject);
        }
        Ok(call)
    }
}
