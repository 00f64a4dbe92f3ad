//! Kubernetes tokens: the API server says whose one is (TokenReview) and whether
//! its owner may make sandboxes in a namespace (SubjectAccessReview). What it said
//! is believed for a short time. Without its answer nobody is let in. It is asked
//! the same by one request at a time, and guesses take no place from tokens that
//! were good before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::remembered::Remembered;
use hutch_api::GROUP;
use hutch_core::access::{Fingerprint, Limits, Principal, Scope, fingerprint};
use hutch_core::interfaces::AccessError;
use hutch_core::turns::Turns;

/// What the right to use sandboxes is: who may make them may use them.
const VERB: &str = "create";
/// How long a yes is believed, and how long a no.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));
/// Answers of each kind that are remembered.
const REMEMBERED: usize = 1024;
/// Reviews in progress of tokens that were good before, and as many of others:
/// guessing keeps the API server no busier than this.
const AT_ONCE: usize = 8;
/// How long both reviews of a token may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest token, in bytes.
const LONGEST: usize = 16 << 10;
/// By how much the clocks here and at the API server may differ.
const SKEW: Duration = Duration::from_secs(60);
/// How often a failure is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(10);

type Verdict = Result<Arc<Principal>, AccessError>;

/// Asks the API server about tokens.
pub struct TokenReviews {
    client: Client,
    /// By token.
    users: Remembered<Fingerprint, Arc<User>>,
    /// Tokens that are nobody's, apart: guesses push nobody out.
    nobody: Remembered<Fingerprint, ()>,
    /// Whether a user may make sandboxes in a namespace.
    rights: Remembered<(Fingerprint, String), bool>,
    /// Which tokens are asked about, and which users' rights: a user who asks for
    /// many namespaces takes one place.
    asking: Turns<Fingerprint>,
    good: Semaphore,
    new: Semaphore,
    logged: Mutex<Option<Instant>>,
}

/// The owner of a token, with all that rights may hang on.
struct User {
    info: UserInfo,
    id: Fingerprint,
}

impl TokenReviews {
    /// Asks with that client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            users: Remembered::new(REMEMBERED),
            nobody: Remembered::new(REMEMBERED),
            rights: Remembered::new(REMEMBERED),
            asking: Turns::default(),
            good: Semaphore::new(AT_ONCE),
            new: Semaphore::new(AT_ONCE),
            logged: Mutex::default(),
        }
    }

    /// Whom a request with that token acts for in the namespace.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn principal(&self, token: &str, namespace: &str) -> Verdict {
        if !may_be_good(token, SystemTime::now()) {
            return Err(AccessError::Unknown);
        }
        match timeout(DEADLINE, self.review(token, namespace)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Err(self.unavailable(&error.to_string())),
            Err(_) => Err(self.unavailable("the API server did not answer in time")),
        }
    }

    async fn review(&self, token: &str, namespace: &str) -> kube::Result<Verdict> {
        let Some(user) = self.user(token).await? else {
            return Ok(Err(AccessError::Unknown));
        };
        let name = user.info.username.clone().unwrap_or_default();
        if !self.may_use(&user, namespace).await? {
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

    /// Whose the token is, if it is anybody's.
    async fn user(&self, token: &str) -> kube::Result<Option<Arc<User>>> {
        let about = fingerprint(token);
        let known = || match self.users.get(&about) {
            None => self.nobody.get(&about).map(|()| None),
            user => Some(user),
        };
        if let Some(user) = known() {
            return Ok(user);
        }
        let _turn = self.asking.take(about).await;
        if let Some(user) = known() {
            return Ok(user);
        }
        let was_good = self.users.had(&about);
        let places = if was_good { &self.good } else { &self.new };
        // They are never closed.
        let _place = places.acquire().await;
        let Some(info) = self.ask_for_user(token).await? else {
            self.users.forget(&about);
            self.nobody.put(about, (), BELIEVED.1);
            return Ok(None);
        };
        let id = serde_json::to_string(&info).map_err(kube::Error::SerdeError)?;
        let id = fingerprint(&id);
        let user = Arc::new(User { info, id });
        self.users.put(about, user.clone(), BELIEVED.0);
        Ok(Some(user))
    }

    async fn may_use(&self, user: &User, namespace: &str) -> kube::Result<bool> {
        let about = (user.id, namespace.to_owned());
        if let Some(allowed) = self.rights.get(&about) {
            return Ok(allowed);
        }
        let _turn = self.asking.take(user.id).await;
        if let Some(allowed) = self.rights.get(&about) {
            return Ok(allowed);
        }
        let _place = self.good.acquire().await;
        let info = user.info.clone();
        let allowed = self.ask_whether_may_use(info, namespace).await?;
        let time = if allowed { BELIEVED.0 } else { BELIEVED.1 };
        self.rights.put(about, allowed, time);
        Ok(allowed)
    }

    async fn ask_for_user(&self, token: &str) -> kube::Result<Option<UserInfo>> {
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

    async fn ask_whether_may_use(&self, user: UserInfo, namespace: &str) -> kube::Result<bool> {
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

/// Whether the API server is to be asked about a text: it is a JSON Web Token by
/// its looks, as those of ServiceAccounts and of OIDC are, and not past its end.
fn may_be_good(text: &str, now: SystemTime) -> bool {
    let part = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !part.is_empty() && part.bytes().all(fits)
    };
    let parts: Vec<_> = text.splitn(4, '.').collect();
    let [_, claims, _] = parts[..] else {
        return false;
    };
    if text.len() > LONGEST || !parts.iter().all(|text| part(text)) {
        return false;
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
    let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(&claims) else {
        return false;
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ends = claims.get("exp").and_then(Value::as_f64);
    ends.is_none_or(|ends| ends + SKEW.as_secs_f64() > now.as_secs_f64())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
