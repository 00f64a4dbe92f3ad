//! One request on its way from the gate to its handler: whose it is, or why it is
//! refused, and what is told of it when it is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use hutch_core::access::{Principal, Scope};

/// Why a request goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its head can be read in two ways.
    Ambiguous(&'static str),
    /// There is no credential, or none that is anybody's.
    Unauthenticated,
    /// The key is not for this contract.
    Scope(Scope),
    /// The principal may not do this.
    Forbidden(String),
    /// The principal asks for more than it may; it may again after that long.
    TooMany(&'static str, Duration),
    /// The process has more to do than it can.
    Busy(&'static str),
    /// The credential cannot be checked now.
    Unavailable,
    /// It was not done within that time.
    TooLong(Duration),
}

impl Refusal {
    const fn status(&self) -> u16 {
        match self {
            Self::Ambiguous(_) => 400,
            Self::Unauthenticated => 401,
            Self::Scope(_) | Self::Forbidden(_) => 403,
            Self::TooMany(..) => 429,
            Self::Busy(_) | Self::Unavailable => 503,
            Self::TooLong(_) => 504,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unauthenticated => {
                "an API key is needed, as bearer token or in the URL: http://tenant:KEY@host"
                    .to_owned()
            }
            Self::Scope(scope) => format!("the key lacks the scope {}", scope.name()),
            Self::Forbidden(text) => text.clone(),
            Self::Ambiguous(text) | Self::TooMany(text, _) | Self::Busy(text) => (*text).to_owned(),
            Self::Unavailable => "credentials cannot be checked now, try again".to_owned(),
            Self::TooLong(limit) => format!("the request was not done within {limit:?}"),
        }
    }

    /// Seconds after which to try again, if that makes sense; never 0.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany(_, wait) => Some((wait.as_secs_f64().ceil() as u64).max(1)),
            Self::Busy(_) | Self::Unavailable => Some(1),
            _ => None,
        }
    }
}

/// What the gate found out about a request.
#[derive(Debug)]
pub struct Visit {
    /// Whose the request is, as far as it is known; nobody's in particular where
    /// everybody is let in.
    pub principal: Option<Arc<Principal>>,
    /// Why it is refused, if it is.
    pub refusal: Option<Refusal>,
    /// Whether it goes to the facade's own namespace.
    pub at_home: bool,
    /// Whether a line is to be written about it.
    pub audited: bool,
    /// How long it may take.
    pub deadline: Duration,
    received: AtomicU64,
    subject: OnceLock<String>,
}

impl Visit {
    /// A visit of that principal, with everything else to be filled in.
    pub fn new(principal: Option<Arc<Principal>>, deadline: Duration) -> Self {
        Self {
            principal,
            refusal: None,
            at_home: true,
            audited: false,
            deadline,
            received: AtomicU64::new(0),
            subject: OnceLock::new(),
        }
    }

    /// Says what the request is about; the first who says so is right.
    pub fn about(&self, subject: &str) {
        self.subject.get_or_init(|| subject.to_owned());
    }

    /// What the request is about, if that was said.
    pub fn subject(&self) -> Option<&str> {
        self.subject.get().map(String::as_str)
    }

    /// Counts bytes of the request's body.
    pub fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of the request's body that were read.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether it may know how it stands with the projects' database.
    pub fn may_see_projects(&self) -> bool {
        self.refusal_of(Scope::Project).is_none()
    }

    fn refusal_of(&self, scope: Scope) -> Option<Refusal> {
        if let Some(refusal) = &self.refusal {
            return Some(refusal.clone());
        }
        let principal = self.principal.as_ref()?;
        if !principal.scopes.contains(&scope) {
            return Some(Refusal::Scope(scope));
        }
        (scope == Scope::Project && !self.at_home).then(|| {
            let namespace = &principal.namespace;
            Refusal::Forbidden(format!("there are no projects in namespace {namespace}"))
        })
    }
}

/// A contract, as who is admitted to it sees it.
#[derive(Clone, Copy)]
pub struct Contract {
    /// What a key must be good for.
    pub scope: Scope,
    /// What a request is about, where its head says so.
    pub subject: fn(&HeaderMap) -> Option<String>,
    /// Words a failure of a request about that, as far as it is known.
    pub failure: fn(u16, &str, Option<&str>) -> Response,
}

impl Contract {
    /// The refusal in the words of the contract, of a request about that.
    pub fn refuse(&self, refusal: &Refusal, subject: Option<&str>) -> Response {
        let mut answer = (self.failure)(refusal.status(), &refusal.text(), subject);
        let headers = answer.headers_mut();
        if *refusal == Refusal::Unauthenticated {
            for challenge in [r#"Bearer realm="hutch""#, r#"Basic realm="hutch""#] {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        if let Some(seconds) = refusal.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// Lets those in whom the gate let pass and who may use the contract, for as long
/// as a request may take.
pub async fn admit(State(contract): State<Contract>, request: Request, next: Next) -> Response {
    let Some(visit) = request.extensions().get::<Arc<Visit>>().cloned() else {
        return contract.refuse(&Refusal::Unauthenticated, None);
    };
    if let Some(subject) = (contract.subject)(request.headers()) {
        visit.about(&subject);
    }
    if let Some(refusal) = visit.refusal_of(contract.scope) {
        return contract.refuse(&refusal, visit.subject());
    }
    match tokio::time::timeout(visit.deadline, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => contract.refuse(&Refusal::TooLong(visit.deadline), visit.subject()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_never_told_to_come_back_at_once() {
        let wait = |time| Refusal::TooMany("", time).retry_after();
        assert_eq!(wait(Duration::from_millis(1)), Some(1));
        assert_eq!(wait(Duration::from_millis(1001)), Some(2));
        assert_eq!(wait(Duration::ZERO), Some(1));
        assert_eq!(Refusal::Unauthenticated.retry_after(), None);
    }

    #[test]
    fn a_key_is_good_for_its_scopes_and_projects_are_at_home() {
        let principal = |scopes: &[Scope]| Principal {
            tenant: "a".into(),
            key: None,
            namespace: "x".into(),
            scopes: scopes.into(),
            limits: Default::default(),
        };
        let visit = |scopes: &[Scope], at_home| Visit {
            at_home,
            ..Visit::new(Some(Arc::new(principal(scopes))), Duration::ZERO)
        };
        let tenant = visit(&[Scope::Tenant], false);
        assert_eq!(tenant.refusal_of(Scope::Tenant), None);
        let missing = Some(Refusal::Scope(Scope::Project));
        assert_eq!(tenant.refusal_of(Scope::Project), missing);
        let project = |at_home| visit(&[Scope::Project], at_home).refusal_of(Scope::Project);
        assert_eq!(project(true), None);
        assert!(matches!(project(false), Some(Refusal::Forbidden(_))));
    }
}
