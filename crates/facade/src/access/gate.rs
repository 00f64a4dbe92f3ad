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
use super::browsers::foreign;
use super::credentials::presented;
use super::heads::ambiguous;
use super::limits::{Limiter, Pass};
use super::namespaces::{Make, Namespaces, Served};
use super::visit::{Refusal, Visit};
use crate::router::MAX_BODY;
use hutch_core::access::Principal;
use hutch_core::interfaces::{AccessError, Authenticator};

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
        if let Some(text) = ambiguous(headers) {
            return Err(Refusal::Ambiguous(text));
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::middleware::from_fn_with_state;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use tokio_util::sync::CancellationToken;

    use super::super::visit::{Contract, admit};
    use super::*;
    use hutch_core::access::{Limits, Scope};

    /// Knows `one` alone, who may ask once a second.
    struct One;

    impl Authenticator for One {
        fn authenticate<'a>(
            &'a self,
            credential: &'a str,
            namespace: Option<&'a str>,
        ) -> BoxFuture<'a, Result<Arc<Principal>, AccessError>> {
            let one = Principal {
                tenant: "one".into(),
                key: None,
                namespace: namespace.unwrap_or("elsewhere").into(),
                scopes: vec![Scope::Tenant],
                limits: Limits {
                    rate: 1,
                    concurrency: 1,
                },
            };
            let known = credential == "one";
            async move { known.then(|| Arc::new(one)).ok_or(AccessError::Unknown) }.boxed()
        }
    }

    /// A contract with one route behind a gate, beside a route for everybody; and how
    /// many other namespaces were made.
    fn gate() -> (Router, Arc<AtomicUsize>) {
        let contract = Contract {
            scope: Scope::Tenant,
            subject: |_| None,
            failure: |code, _, _| {
                let code = StatusCode::from_u16(code);
                code.unwrap_or_default().into_response()
            },
        };
        let routes = Router::new()
            .route("/asks", get(|| async {}))
            .layer(from_fn_with_state(contract, admit))
            .route("/health", get(|| async {}));
        let settings = GateSettings {
            authenticator: Some(Arc::new(One)),
            namespace: "home".into(),
            deadline: Duration::from_secs(1),
            max_in_flight: 0,
            audit: false,
        };
        let (home, made) = (routes.clone(), Arc::new(AtomicUsize::new(0)));
        let count = made.clone();
        let others: Make = Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok((routes.clone(), CancellationToken::new().drop_guard()))
        });
        let gate = Gate::new(settings, home, others);
        (Router::new().fallback(enter).with_state(gate), made)
    }

    async fn asked(gate: &Router, path: &str, token: &str, namespace: &str) -> u16 {
        let request = Request::get(path)
            .header("authorization", format!("Bearer {token}"))
            .header(NAMESPACE, namespace)
            .body(Body::empty())
            .unwrap();
        let Ok(answer) = gate.clone().oneshot(request).await;
        answer.status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_strangers_are_told_so_and_everybody_s_route_goes_on() {
        let (gate, _) = gate();
        let mut told = 401;
        for _ in 0..10_000 {
            told = asked(&gate, "/asks", "none", "home").await;
            if told != 401 {
                break;
            }
        }
        assert_eq!(told, 429);
        assert_eq!(asked(&gate, "/health", "none", "home").await, 200);
        assert_eq!(asked(&gate, "/asks", "one", "home").await, 200);
    }

    #[tokio::test]
    async fn a_head_that_can_be_read_in_two_ways_is_nobody_s_request() {
        let (gate, made) = gate();
        let request = Request::get("/asks")
            .header("authorization", "Bearer one")
            .header("x-sandbox-id", "a")
            .header("x-sandbox-id", "b")
            .body(Body::empty())
            .unwrap();
        let Ok(answer) = gate.oneshot(request).await;
        assert_eq!(answer.status().as_u16(), 400);
        assert_eq!(made.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_over_a_limit_makes_nothing() {
        let (gate, made) = gate();
        assert_eq!(asked(&gate, "/asks", "one", "a").await, 200);
        assert_eq!(asked(&gate, "/asks", "one", "b").await, 429);
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
