//! The gate before all routes. It finds out whose a request is and hands it to the
//! routes over that principal's namespace, so that no route can reach another. It
//! answers nothing itself: refusals are worded by the contract that was asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::response::Response;
use tower::ServiceExt;

use super::bodies::{Counted, Holding};
use super::browsers::foreign;
use super::credentials::presented;
use super::limits::{Limiter, Pass};
use super::visit::{Refusal, Visit};
use crate::domain::access::Principal;
use crate::domain::interfaces::{AccessError, Authenticator};
use crate::http::router::MAX_BODY;

/// Namespaces that are served at most.
const NAMESPACES: usize = 1024;
/// The header by which a Kubernetes token names the namespace that it acts in.
const NAMESPACE: &str = "x-hutch-namespace";

/// The routes over one namespace; or why there are none.
type Routes = Box<dyn Fn(&str) -> Result<Router, String> + Send + Sync>;

/// What the operator of the gate decides.
pub struct GateSettings {
    /// Who tells whose a credential is; `None` lets everybody in.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// The facade's own namespace.
    pub namespace: String,
    /// How long a request may take.
    pub deadline: Duration,
    /// Bytes of request bodies in the process at most.
    pub max_in_flight: u64,
    /// Whether every request gets a line in the log.
    pub audit: bool,
}

/// The gate.
pub struct Gate {
    settings: GateSettings,
    limiter: Limiter,
    home: Router,
    routes: Routes,
    others: Mutex<HashMap<String, Router>>,
}

impl Gate {
    /// A gate before `home`, the routes over the facade's own namespace, and those
    /// that `routes` makes over others when they are asked for.
    pub fn new(settings: GateSettings, home: Router, routes: Routes) -> Arc<Self> {
        Arc::new(Self {
            limiter: Limiter::new(settings.max_in_flight, MAX_BODY as u64),
            settings,
            home,
            routes,
            others: Mutex::default(),
        })
    }

    /// Whose the request is; `None` where everybody is let in.
    async fn principal(&self, headers: &HeaderMap) -> Result<Option<Arc<Principal>>, Refusal> {
        let open = self.settings.authenticator.is_none();
        if let Some(text) = foreign(headers, open) {
            return Err(Refusal::Forbidden(text.to_owned()));
        }
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

    fn routes_of(&self, namespace: &str) -> Result<Router, Refusal> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(routes) = others.get(namespace) {
            return Ok(routes.clone());
        }
        if others.len() >= NAMESPACES {
            return Err(Refusal::Busy("too many namespaces are served"));
        }
        let routes = (self.routes)(namespace).map_err(Refusal::Forbidden)?;
        others.insert(namespace.to_owned(), routes.clone());
        Ok(routes)
    }

    /// The visit, the routes that it leads to, and the room that it takes.
    async fn open(&self, headers: &HeaderMap) -> (Visit, Router, Pass) {
        let (principal, refusal) = match self.principal(headers).await {
            Ok(principal) => (principal, None),
            Err(refusal) => (None, Some(refusal)),
        };
        let mut visit = Visit::new(principal, self.settings.deadline);
        visit.audited = self.settings.audit;
        visit.refusal = refusal;
        let (mut routes, mut pass) = (self.home.clone(), Pass::default());
        if visit.refusal.is_some() {
            return (visit, routes, pass);
        }
        let principal = visit.principal.clone();
        match self.limiter.pass(principal.as_deref(), size(headers)) {
            Ok(given) => pass = given,
            Err(refusal) => visit.refusal = Some(refusal),
        }
        if let Some(principal) = principal
            && principal.namespace != self.settings.namespace
        {
            visit.at_home = false;
            match self.routes_of(&principal.namespace) {
                Ok(own) => routes = own,
                Err(refusal) => visit.refusal = Some(refusal),
            }
        }
        (visit, routes, pass)
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
    let (visit, routes, pass) = gate.open(request.headers()).await;
    let visit = Arc::new(visit);
    request.extensions_mut().insert(visit.clone());
    let request = request.map(|body| Counted::wrap(body, visit));
    let Ok(answer) = routes.oneshot(request).await;
    if pass.holds_nothing() {
        return answer;
    }
    answer.map(|body| Holding::wrap(body, pass))
}
