//! The gate before all routes. It finds out whose a request is and hands it to the
//! routes over that principal's namespace, so that no route can reach another. It
//! answers nothing itself: refusals are worded by the contract that was asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::response::Response;
use tower::ServiceExt;

use super::bodies::{Counted, Holding};
use super::credentials::presented;
use super::limits::{Limiter, Pass};
use super::namespaces::{Make, Namespaces, Served};
use super::visit::{Refusal, Visit};
use crate::domain::access::Principal;
use crate::domain::interfaces::{AccessError, Authenticator};
use crate::http::router::MAX_BODY;

/// Namespaces that are served at most.
const NAMESPACES: usize = 1024;
/// The header by which a Kubernetes token names the namespace that it acts in.
const NAMESPACE: &str = "x-hutch-namespace";

/// What the operator of the gate decides.
pub struct GateSettings {
    /// Who tells whose a credential is; `None` lets everybody in.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// The facade's own namespace.
    pub namespace: String,
    /// How long a request may take.
    pub deadline: Duration,
    /// Bytes of request bodies and of answers in the process at most.
    pub max_in_flight: u64,
    /// Whether every request gets a line in the log.
    pub audit: bool,
}

/// The gate.
pub struct Gate {
    settings: GateSettings,
    limiter: Limiter,
    home: Router,
    others: Namespaces,
}

/// Where a request goes, and what it holds until its answer has gone out.
#[derive(Default)]
struct Way {
    /// The namespace that it leads to, where that is not the facade's own.
    other: Option<Arc<Served>>,
    pass: Pass,
}

impl Gate {
    /// A gate before `home`, the routes over the facade's own namespace, and those
    /// that `others` makes over others when they are asked for.
    pub fn new(settings: GateSettings, home: Router, others: Make) -> Arc<Self> {
        Arc::new(Self {
            limiter: Limiter::new(settings.max_in_flight, MAX_BODY as u64),
            settings,
            home,
            others: Namespaces::new(others, NAMESPACES),
        })
    }

    /// Whose the request is; `None` where everybody is let in.
    async fn principal(&self, headers: &HeaderMap) -> Result<Option<Arc<Principal>>, Refusal> {
        let Some(authenticator) = &self.settings.authenticator else {
            return Ok(None);
        };
        let credential = presented(headers).ok_or(Refusal::Unauthenticated)?;
        let namespace = headers.get(NAMESPACE).map(|value| value.to_str());
        let namespace = namespace.transpose();
        let namespace = namespace.map_err(|_| Refusal::Unauthenticated)?;
        let principal = authenticator.authenticate(&credential, namespace).await;
        principal.map(Some).map_err(|error| match error {
            AccessError::Unknown => Refusal::Unauthenticated,
            AccessError::Forbidden(text) => Refusal::Forbidden(text),
            AccessError::Unavailable => Refusal::Unavailable,
        })
    }

    /// The visit, and the way on.
    async fn open(&self, headers: &HeaderMap) -> (Visit, Way) {
        let (principal, refusal) = match self.principal(headers).await {
            Ok(principal) => (principal, None),
            Err(refusal) => (None, Some(refusal)),
        };
        let mut visit = Visit::new(principal, self.settings.deadline);
        visit.audited = self.settings.audit;
        visit.at_home = self.at_home(visit.principal.as_deref());
        let way = match refusal {
            None => self.way(visit.principal.as_deref(), size(headers)),
            // To tell so many that they are nobody is too much as well.
            Some(refusal) => self.limiter.stranger().map(|pass| {
                visit.refusal = Some(refusal);
                Way { other: None, pass }
            }),
        };
        let way = way.unwrap_or_else(|refusal| {
            visit.refusal = Some(refusal);
            Way::default()
        });
        (visit, way)
    }

    fn at_home(&self, principal: Option<&Principal>) -> bool {
        principal.is_none_or(|principal| principal.namespace == self.settings.namespace)
    }

    fn way(&self, principal: Option<&Principal>, bytes: u64) -> Result<Way, Refusal> {
        let pass = self.limiter.pass(principal, bytes)?;
        let away = principal.filter(|_| !self.at_home(principal));
        let other = away.map(|principal| self.others.serve(&principal.namespace));
        let other = other.transpose()?;
        Ok(Way { other, pass })
    }
}

/// Bytes that the request's body takes: as its head says, and where that says
/// nothing (a chunked body) those of the largest.
fn size(headers: &HeaderMap) -> u64 {
    if headers.contains_key(TRANSFER_ENCODING) {
        return MAX_BODY as u64;
    }
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(0).min(MAX_BODY as u64)
}

/// Leads a request through the gate.
pub async fn enter(State(gate): State<Arc<Gate>>, mut request: Request) -> Response {
    let (visit, way) = gate.open(request.headers()).await;
    let (visit, room) = (Arc::new(visit), way.pass.room.clone());
    request.extensions_mut().insert(visit.clone());
    if let Some(room) = &room {
        request.extensions_mut().insert(room.clone());
    }
    let request = request.map(|body| Counted::wrap(body, visit, room));
    let routes = way.other.as_ref().map_or(&gate.home, |other| &other.routes);
    let Ok(answer) = routes.clone().oneshot(request).await;
    answer.map(|body| Holding::wrap(body, way))
}
