//! The context of a request from authentication to its handler: its principal or the
//! reason for its refusal, and the facts for its audit record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use hutch_core::access::{Principal, Scope};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its headers have more than one meaning.
    Ambiguous(&'static str),
    /// There is no credential, or nobody has this one.
    Unauthenticated,
    /// The key lacks the scope of this contract.
    MissingScope(Scope),
    Forbidden(String),
    /// Over a limit of the principal; the client may retry after this time.
    TooMany(&'static str, Duration),
    /// Over a limit of the process.
    Busy(&'static str),
    /// The credential cannot be checked now.
    Unavailable,
    /// The request took longer than this.
    TimedOut(Duration),
}

impl Refusal {
    const fn status(&self) -> u16 {
        match self {
            Self::Ambiguous(_) => 400,
            Self::Unauthenticated => 401,
            Self::MissingScope(_) | Self::Forbidden(_) => 403,
            Self::TooMany(..) => 429,
            Self::Busy(_) | Self::Unavailable => 503,
            Self::TimedOut(_) => 504,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unauthenticated => {
                "an API key is needed, as bearer token or in the URL: http://tenant:KEY@host"
                    .to_owned()
            }
            Self::MissingScope(scope) => format!("the key lacks the scope {}", scope.name()),
            Self::Forbidden(text) => text.clone(),
            Self::Ambiguous(text) | Self::TooMany(text, _) | Self::Busy(text) => (*text).to_owned(),
            Self::Unavailable => "credentials cannot be checked now, try again".to_owned(),
            Self::TimedOut(limit) => format!("the request was not done within {limit:?}"),
        }
    }

    /// Seconds for `Retry-After`, never 0; `None` if a retry cannot help.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany(_, wait) => Some((wait.as_secs_f64().ceil() as u64).max(1)),
            Self::Busy(_) | Self::Unavailable => Some(1),
            _ => None,
        }
    }
}

/// The result of authentication for one request.
#[derive(Debug)]
pub struct RequestContext {
    /// `None` if the request is refused, or if the facade needs no credentials.
    pub principal: Option<Arc<Principal>>,
    pub refusal: Option<Refusal>,
    /// True if the request uses the facade's own namespace.
    pub in_own_namespace: bool,
    /// True if the audit log gets a line about this request.
    pub audited: bool,
    /// The longest time that the request may take.
    pub deadline: Duration,
    received: AtomicU64,
    subject: OnceLock<String>,
}

impl RequestContext {
    /// A request of `principal` to the facade's own namespace, not refused and not audited.
    pub fn new(principal: Option<Arc<Principal>>, deadline: Duration) -> Self {
        Self {
            principal,
            refusal: None,
            in_own_namespace: true,
            audited: false,
            deadline,
            received: AtomicU64::new(0),
            subject: OnceLock::new(),
        }
    }

    /// Sets the sandbox, conversation or project of the request. Later calls are ignored.
    pub fn set_subject(&self, subject: &str) {
        self.subject.get_or_init(|| subject.to_owned());
    }

    pub fn subject(&self) -> Option<&str> {
        self.subject.get().map(String::as_str)
    }

    /// Counts bytes of the request's body.
    pub fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of the request's body so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// True if the client may see the state of the projects' database.
    pub fn may_see_projects(&self) -> bool {
        self.refusal_of(Scope::Project).is_none()
    }

    fn refusal_of(&self, scope: Scope) -> Option<Refusal> {
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        let principal = self.principal.as_ref()?;
        if !principal.scopes.contains(&scope) {
            return Some(Refusal::MissingScope(scope));
        }
        (scope == Scope::Project && !self.in_own_namespace).then(|| {
            let namespace = &principal.namespace;
            Refusal::Forbidden(format!("there are no projects in namespace {namespace}"))
        })
    }
}

/// The properties of a contract that access control needs.
#[derive(Clone, Copy)]
pub struct Contract {
    /// A key must have this scope.
    pub scope: Scope,
    /// The subject of a request, if its headers name one.
    pub subject: fn(&HeaderMap) -> Option<String>,
    /// Formats a failure from its status, its text and the subject of the request.
    pub failure: fn(u16, &str, Option<&str>) -> Response,
}

impl Contract {
    /// The response to a refused request, in the format of the contract.
    pub fn refuse(&self, refusal: &Refusal, subject: Option<&str>) -> Response {
        let mut response = (self.failure)(refusal.status(), &refusal.text(), subject);
        let headers = response.headers_mut();
        if *refusal == Refusal::Unauthenticated {
            for challenge in [r#"Bearer realm="hutch""#, r#"Basic realm="hutch""#] {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        if let Some(seconds) = refusal.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Runs a request that is authenticated and may use the contract, until its deadline.
/// All others are refused, also those that did not pass authentication at all.
pub async fn authorize(State(contract): State<Contract>, request: Request, next: Next) -> Response {
    let Some(context) = request.extensions().get::<Arc<RequestContext>>().cloned() else {
        return contract.refuse(&Refusal::Unauthenticated, None);
    };
    if let Some(subject) = (contract.subject)(request.headers()) {
        context.set_subject(&subject);
    }
    if let Some(refusal) = context.refusal_of(contract.scope) {
        return contract.refuse(&refusal, context.subject());
    }
    match tokio::time::timeout(context.deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => contract.refuse(&Refusal::TimedOut(context.deadline), context.subject()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_never_zero() {
        let wait = |time| Refusal::TooMany("", time).retry_after();
        assert_eq!(wait(Duration::from_millis(1)), Some(1));
        assert_eq!(wait(Duration::from_millis(1001)), Some(2));
        assert_eq!(wait(Duration::ZERO), Some(1));
        assert_eq!(Refusal::Unauthenticated.retry_after(), None);
    }

    #[test]
    fn a_key_needs_the_scope_and_projects_need_the_own_namespace() {
        let principal = |scopes: &[Scope]| Principal {
            tenant: "a".into(),
            key: None,
            namespace: "x".into(),
            scopes: scopes.into(),
            limits: Default::default(),
        };
        let context = |scopes: &[Scope], in_own_namespace| RequestContext {
            in_own_namespace,
            ..RequestContext::new(Some(Arc::new(principal(scopes))), Duration::ZERO)
        };
        let tenant = context(&[Scope::Tenant], false);
        assert_eq!(tenant.refusal_of(Scope::Tenant), None);
        let missing = Some(Refusal::MissingScope(Scope::Project));
        assert_eq!(tenant.refusal_of(Scope::Project), missing);
        let project = |own| context(&[Scope::Project], own).refusal_of(Scope::Project);
        assert_eq!(project(true), None);
        assert!(matches!(project(false), Some(Refusal::Forbidden(_))));
    }
}
