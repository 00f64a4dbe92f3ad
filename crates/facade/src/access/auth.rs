//! Authentication, before all routes. It finds the principal of a request and passes the
//! request to the routes of the principal's namespace, so that no route can reach
//! another namespace. A refused request is passed on as well: the contract that it was
//! sent to formats the refusal.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::response::Response;
use tower::ServiceExt;

use super::ambiguous_headers::ambiguous_headers;
use super::bodies::{CountedBody, HoldingBody};
use super::context::{Refusal, RequestContext};
use super::credentials::credential_from_headers;
use super::cross_site::cross_site;
use super::limits::{Limiter, Permit};
use super::namespaces::{CreateRoutes, Namespaces, ServedNamespace};
use crate::router::MAX_BODY;
use hutch_core::access::Principal;
use hutch_core::interfaces::{AccessError, Authenticator};

/// Most namespaces beside the facade's own that are served at the same time.
const MAX_NAMESPACES: usize = 1024;
/// A client with a Kubernetes token names its namespace in this header.
const NAMESPACE_HEADER: &str = "x-hutch-namespace";

/// Settings of authentication and limits.
pub struct AuthSettings {
    /// Finds the principal of a credential. `None` admits requests without one.
    pub authenticator: Option<Arc<dyn Authenticator>>,
    /// The facade's own namespace.
    pub namespace: String,
    /// The longest time that a request may take; after it the client gets 504.
    pub deadline: Duration,
    /// Most bytes of request bodies and responses in memory at the same time.
    pub max_in_flight: u64,
    /// True if the audit log gets a line per request.
    pub audit: bool,
}

pub struct AuthLayer {
    settings: AuthSettings,
    limiter: Limiter,
    own: Router,
    others: Namespaces,
}

/// The target of a request. It is held until the response has been sent.
#[derive(Default)]
struct Route {
    /// `None` for the facade's own namespace.
    other: Option<Arc<ServedNamespace>>,
    permit: Permit,
}

impl AuthLayer {
    /// `own` are the routes of the facade's own namespace. `others` creates those of
    /// another namespace at its first request.
    pub fn new(settings: AuthSettings, own: Router, others: CreateRoutes) -> Arc<Self> {
        Arc::new(Self {
            limiter: Limiter::new(settings.max_in_flight, MAX_BODY as u64),
            settings,
            own,
            others: Namespaces::new(others, MAX_NAMESPACES),
        })
    }

    /// The principal of the request; `None` if the facade needs no credentials.
    async fn principal(&self, headers: &HeaderMap) -> Result<Option<Arc<Principal>>, Refusal> {
        if let Some(text) = ambiguous_headers(headers) {
            return Err(Refusal::Ambiguous(text));
        }
        let open = self.settings.authenticator.is_none();
        if let Some(text) = cross_site(headers, open) {
            return Err(Refusal::Forbidden(text.to_owned()));
        }
        let Some(authenticator) = &self.settings.authenticator else {
            return Ok(None);
        };
        let credential = credential_from_headers(headers).ok_or(Refusal::Unauthenticated)?;
        let namespace = headers.get(NAMESPACE_HEADER).map(|value| value.to_str());
        let namespace = namespace.transpose();
        let namespace = namespace.map_err(|_| Refusal::Unauthenticated)?;
        let principal = authenticator.authenticate(&credential, namespace).await;
        principal.map(Some).map_err(|error| match error {
            AccessError::Unknown => Refusal::Unauthenticated,
            AccessError::Forbidden(text) => Refusal::Forbidden(text),
            AccessError::Unavailable => Refusal::Unavailable,
        })
    }

    async fn context(&self, headers: &HeaderMap) -> (RequestContext, Route) {
        let (principal, refusal) = match self.principal(headers).await {
            Ok(principal) => (principal, None),
            Err(refusal) => (None, Some(refusal)),
        };
        let mut context = RequestContext::new(principal, self.settings.deadline);
        context.audited = self.settings.audit;
        context.in_own_namespace = self.is_own_namespace(context.principal.as_deref());
        let route = match refusal {
            None => self.route(context.principal.as_deref(), body_bytes(headers)),
            // Refusals are rate-limited too: a flood of bad credentials gets 429, not 401.
            Some(refusal) => self.limiter.anonymous().map(|permit| {
                context.refusal = Some(refusal);
                let other = None;
                Route { other, permit }
            }),
        };
        let route = route.unwrap_or_else(|refusal| {
            context.refusal = Some(refusal);
            Route::default()
        });
        (context, route)
    }

    fn is_own_namespace(&self, principal: Option<&Principal>) -> bool {
        principal.is_none_or(|principal| principal.namespace == self.settings.namespace)
    }

    fn route(&self, principal: Option<&Principal>, body_bytes: u64) -> Result<Route, Refusal> {
        // The limits come first: a request over a limit must not create a namespace.
        let permit = self.limiter.permit(principal, body_bytes)?;
        let other = principal.filter(|_| !self.is_own_namespace(principal));
        let other = other.map(|principal| self.others.serve(&principal.namespace));
        let other = other.transpose()?;
        Ok(Route { other, permit })
    }
}

/// Bytes to reserve for the request's body. A chunked body has no declared length, so it
/// counts as the largest one.
fn body_bytes(headers: &HeaderMap) -> u64 {
    if headers.contains_key(TRANSFER_ENCODING) {
        return MAX_BODY as u64;
    }
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(0).min(MAX_BODY as u64)
}

/// Authenticates a request and passes it to the routes of its namespace, with its
/// [`RequestContext`] as an extension.
pub async fn authenticate(State(layer): State<Arc<AuthLayer>>, mut request: Request) -> Response {
    let (context, route) = layer.context(request.headers()).await;
    let (context, memory) = (Arc::new(context), route.permit.memory.clone());
    request.extensions_mut().insert(context.clone());
    if let Some(memory) = &memory {
        request.extensions_mut().insert(memory.clone());
    }
    let request = request.map(|body| CountedBody::wrap(body, context, memory));
    let other = route.other.as_ref();
    let routes = other.map_or(&layer.own, |other| &other.routes);
    let Ok(response) = routes.clone().oneshot(request).await;
    response.map(|body| HoldingBody::wrap(body, route))
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

    use super::super::context::{Contract, authorize};
    use super::*;
    use hutch_core::access::{Limits, Scope};

    /// Knows the credential `one`, with one request per second.
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

    /// A contract with one protected route and one open route, behind authentication; and
    /// the number of other namespaces that were created.
    fn facade() -> (Router, Arc<AtomicUsize>) {
        let contract = Contract {
            scope: Scope::Tenant,
            subject: |_| None,
            failure: |code, _, _| {
                let code = StatusCode::from_u16(code);
                code.unwrap_or_default().into_response()
            },
        };
        let routes = Router::new()
            .route("/protected", get(|| async {}))
            .layer(from_fn_with_state(contract, authorize))
            .route("/health", get(|| async {}));
        let settings = AuthSettings {
            authenticator: Some(Arc::new(One)),
            namespace: "home".into(),
            deadline: Duration::from_secs(1),
            max_in_flight: 0,
            audit: false,
        };
        let (own, created) = (routes.clone(), Arc::new(AtomicUsize::new(0)));
        let count = created.clone();
        let others: CreateRoutes = Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok((routes.clone(), CancellationToken::new().drop_guard()))
        });
        let layer = AuthLayer::new(settings, own, others);
        (
            Router::new().fallback(authenticate).with_state(layer),
            created,
        )
    }

    async fn status(facade: &Router, path: &str, token: &str, namespace: &str) -> u16 {
        let request = Request::get(path)
            .header("authorization", format!("Bearer {token}"))
            .header(NAMESPACE_HEADER, namespace)
            .body(Body::empty())
            .unwrap();
        let Ok(response) = facade.clone().oneshot(request).await;
        response.status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_bad_credentials_gets_429_and_the_open_route_still_works() {
        let (facade, _) = facade();
        let mut refused = 401;
        for _ in 0..10_000 {
            refused = status(&facade, "/protected", "none", "home").await;
            if refused != 401 {
                break;
            }
        }
        assert_eq!(refused, 429);
        assert_eq!(status(&facade, "/health", "none", "home").await, 200);
        assert_eq!(status(&facade, "/protected", "one", "home").await, 200);
    }

    #[tokio::test]
    async fn a_request_with_ambiguous_headers_is_refused() {
        let (facade, created) = facade();
        let request = Request::get("/protected")
            .header("authorization", "Bearer one")
            .header("x-sandbox-id", "a")
            .header("x-sandbox-id", "b")
            .body(Body::empty())
            .unwrap();
        let Ok(response) = facade.oneshot(request).await;
        assert_eq!(response.status().as_u16(), 400);
        assert_eq!(created.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_over_a_limit_creates_no_namespace() {
        let (facade, created) = facade();
        assert_eq!(status(&facade, "/protected", "one", "a").await, 200);
        assert_eq!(status(&facade, "/protected", "one", "b").await, 429);
        assert_eq!(created.load(Ordering::Relaxed), 1);
    }
}
