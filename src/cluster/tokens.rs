//! Kubernetes tokens: the API server says whose one is (TokenReview) and whether
//! its owner may make sandboxes in a namespace (SubjectAccessReview). What it said
//! is believed for a short time. Without its answer nobody is let in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::crd::GROUP;
use crate::domain::access::{Fingerprint, Limits, Principal, Scope, fingerprint};
use crate::domain::interfaces::AccessError;

/// What the right to use sandboxes is: who may make them may use them.
const VERB: &str = "create";
/// How long a token is believed to be good, and how long to be none.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));
/// Tokens that are remembered.
const REMEMBERED: usize = 1024;
/// Reviews in progress: guessing keeps the API server no busier than this.
const AT_ONCE: usize = 8;
/// How long both reviews of a token may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest token, in bytes.
const LONGEST: usize = 16 << 10;
/// How often a failure is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(10);

type Verdict = Result<Arc<Principal>, AccessError>;

/// Asks the API server about tokens.
pub struct TokenReviews {
    client: Client,
    known: Mutex<HashMap<Fingerprint, (Instant, Verdict)>>,
    room: Semaphore,
    logged: Mutex<Option<Instant>>,
}

impl TokenReviews {
    /// Asks with that client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
            logged: Mutex::default(),
        }
    }

    /// Whom a request with that token acts for in the namespace.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn principal(&self, token: &str, namespace: &str) -> Verdict {
        if !is_token(token) {
            return Err(AccessError::Unknown);
        }
        let about = fingerprint(&format!("{namespace}\0{token}"));
        if let Some((until, verdict)) = lock(&self.known).get(&about)
            && Instant::now() < *until
        {
            return verdict.clone();
        }
        let reviewed = timeout(DEADLINE, self.review(token, namespace)).await;
        let verdict = match reviewed {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => return Err(self.unavailable(&error.to_string())),
            Err(_) => return Err(self.unavailable("the API server did not answer in time")),
        };
        self.remember(about, &verdict);
        verdict
    }

    async fn review(&self, token: &str, namespace: &str) -> kube::Result<Verdict> {
        // It is never closed.
        let _room = self.room.acquire().await;
        let Some(user) = self.user(token).await? else {
            return Ok(Err(AccessError::Unknown));
        };
        let name = user.username.clone().unwrap_or_default();
        if !self.may_use(user, namespace).await? {
            return Ok(Err(AccessError::Forbidden(format!(
                "{name} may not {VERB} sandboxes.{GROUP} in namespace {namespace}"
            ))));
        }
        Ok(Ok(Arc::new(Principal {
            tenant: name,
            key: None,
            namespace: namespace.to_owned(),
            scopes: vec![Scope::Tenant, Scope::Project],
            limits: Limits::default(),
        })))
    }

    async fn user(&self, token: &str) -> kube::Result<Option<UserInfo>> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let api = Api::<TokenReview>::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status;
        let good = status.filter(|status| status.authenticated == Some(true));
        Ok(good.and_then(|status| status.user))
    }

    async fn may_use(&self, user: UserInfo, namespace: &str) -> kube::Result<bool> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(VERB.to_owned()),
                    group: Some(GROUP.to_owned()),
                    resource: Some("sandboxes".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status;
        Ok(status.is_some_and(|status| status.allowed))
    }

    fn remember(&self, about: Fingerprint, verdict: &Verdict) {
        let now = Instant::now();
        let until = now
            + if verdict.is_ok() {
                BELIEVED.0
            } else {
                BELIEVED.1
            };
        let mut known = lock(&self.known);
        if known.len() >= REMEMBERED {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() >= REMEMBERED {
            // Those that are none go first: nobody is to be pushed out by guesses.
            known.retain(|_, (_, verdict)| verdict.is_ok());
        }
        if known.len() < REMEMBERED {
            known.insert(about, (until, verdict.clone()));
        }
    }

    fn unavailable(&self, error: &str) -> AccessError {
        let mut logged = lock(&self.logged);
        if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            *logged = Some(Instant::now());
            tracing::warn!(error, "Kubernetes tokens cannot be reviewed");
        }
        AccessError::Unavailable
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a text is a JSON Web Token by its looks, as those of ServiceAccounts
/// and of OIDC are: the API server is not asked about any other.
fn is_token(text: &str) -> bool {
    let part = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !part.is_empty() && part.bytes().all(fits)
    };
    text.len() <= LONGEST && text.split('.').count() == 3 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_asked_about_web_tokens_only() {
        assert!(is_token("eyJhbGciOi.eyJpc3Mi-_.c2ln"));
        let long = format!("{}.b.c", "a".repeat(LONGEST));
        for other in ["", "a.b", "a..c", "a.b.c.d", "a.b.c d", "hutch_1_2", &long] {
            assert!(!is_token(other), "{other}");
        }
    }
}
