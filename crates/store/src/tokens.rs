//! Authenticates Kubernetes tokens. A TokenReview returns the user of a token, a
//! SubjectAccessReview says if the user may create sandboxes in a namespace.
//!
//! Answers are cached for a short time. Without an answer of the API server nobody
//! gets access. Only one request at a time reviews the same token or user. Tokens
//! that were valid before have review slots of their own, so guesses cannot block
//! them.

use std::sync::Arc;
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

use super::ttl_cache::TtlCache;
use hutch_api::GROUP;
use hutch_core::access::{Fingerprint, Limits, Principal, Scope, fingerprint};
use hutch_core::interfaces::AccessError;
use hutch_core::sync::{KeyedMutex, Lock};

/// A user who may create sandboxes may use them.
const VERB: &str = "create";
/// Time for which a positive answer of the API server is cached.
const ALLOWED_TTL: Duration = Duration::from_secs(30);
/// Time for which a negative answer is cached.
const DENIED_TTL: Duration = Duration::from_secs(5);
/// Entries of each cache.
const CACHE_CAPACITY: usize = 1024;
/// Reviews in progress for tokens that were valid before, and as many for other
/// tokens. This bounds the load that guesses put on the API server.
const MAX_REVIEWS: usize = 8;
/// The longest time for both reviews of a token.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// The largest accepted difference between our clock and the API server's.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);
/// A failure is logged at most once in this time.
const LOG_FAILURE_EVERY: Duration = Duration::from_secs(10);

type Verdict = Result<Arc<Principal>, AccessError>;

/// Reviews tokens with the API server, and caches its answers.
pub struct TokenReviews {
    client: Client,
    /// The users by token.
    users: TtlCache<Fingerprint, Arc<User>>,
    /// Invalid tokens. They have a cache of their own, so that guesses do not evict
    /// valid tokens.
    invalid: TtlCache<Fingerprint, ()>,
    /// True if the user may create sandboxes in the namespace.
    permissions: TtlCache<(Fingerprint, String), bool>,
    /// One review at a time per token and per user. So a user who requests many
    /// namespaces occupies one review slot.
    reviewing: KeyedMutex<Fingerprint>,
    /// Review slots for tokens that were valid before.
    known_slots: Semaphore,
    /// Review slots for all other tokens.
    new_slots: Semaphore,
    logged: Lock<Option<Instant>>,
}

/// The owner of a token, with everything that an authorizer may look at.
struct User {
    info: UserInfo,
    /// Fingerprint of `info`.
    id: Fingerprint,
}

impl TokenReviews {
    /// `client` needs permission to create TokenReviews and SubjectAccessReviews.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            users: TtlCache::new(CACHE_CAPACITY),
            invalid: TtlCache::new(CACHE_CAPACITY),
            permissions: TtlCache::new(CACHE_CAPACITY),
            reviewing: KeyedMutex::default(),
            known_slots: Semaphore::new(MAX_REVIEWS),
            new_slots: Semaphore::new(MAX_REVIEWS),
            logged: Lock::default(),
        }
    }

    /// The principal of a request with `token` in `namespace`.
    ///
    /// # Errors
    /// `Unknown` for an invalid token, `Forbidden` if the user may not create sandboxes
    /// there, `Unavailable` if the API server did not answer within 5 s.
    pub async fn principal(&self, token: &str, namespace: &str) -> Verdict {
        if !may_be_valid(token, SystemTime::now()) {
            return Err(AccessError::Unknown);
        }
        match timeout(REVIEW_TIMEOUT, self.review(token, namespace)).await {
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

    /// The owner of the token; `None` if the token is invalid.
    async fn user(&self, token: &str) -> kube::Result<Option<Arc<User>>> {
        let key = fingerprint(token);
        let cached = || match self.users.get(&key) {
            None => self.invalid.get(&key).map(|()| None),
            user => Some(user),
        };
        if let Some(user) = cached() {
            return Ok(user);
        }
        let _review = self.reviewing.lock(key).await;
        if let Some(user) = cached() {
            return Ok(user);
        }
        let was_valid = self.users.contains(&key);
        let slots = if was_valid {
            &self.known_slots
        } else {
            &self.new_slots
        };
        // The semaphores are never closed.
        let _slot = slots.acquire().await;
        let Some(info) = self.review_token(token).await? else {
            self.users.remove(&key);
            self.invalid.insert(key, (), DENIED_TTL);
            return Ok(None);
        };
        let id = serde_json::to_string(&info).map_err(kube::Error::SerdeError)?;
        let id = fingerprint(&id);
        let user = Arc::new(User { info, id });
        self.users.insert(key, user.clone(), ALLOWED_TTL);
        Ok(Some(user))
    }

    async fn may_use(&self, user: &User, namespace: &str) -> kube::Result<bool> {
        let key = (user.id, namespace.to_owned());
        if let Some(allowed) = self.permissions.get(&key) {
            return Ok(allowed);
        }
        let _review = self.reviewing.lock(user.id).await;
        if let Some(allowed) = self.permissions.get(&key) {
            return Ok(allowed);
        }
        let _slot = self.known_slots.acquire().await;
        let allowed = self.review_access(user.info.clone(), namespace).await?;
        let ttl = if allowed { ALLOWED_TTL } else { DENIED_TTL };
        self.permissions.insert(key, allowed, ttl);
        Ok(allowed)
    }

    async fn review_token(&self, token: &str) -> kube::Result<Option<UserInfo>> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let api = Api::<TokenReview>::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status;
        let valid = status.filter(|status| status.authenticated == Some(true));
        Ok(valid.and_then(|status| status.user))
    }

    async fn review_access(&self, user: UserInfo, namespace: &str) -> kube::Result<bool> {
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
        let mut logged = self.logged.lock();
        if logged.is_none_or(|at| at.elapsed() >= LOG_FAILURE_EVERY) {
            *logged = Some(Instant::now());
            tracing::warn!(error, "Kubernetes tokens cannot be reviewed");
        }
        AccessError::Unavailable
    }
}

/// True if the text may be a valid token: it has the form of a JSON Web Token, like
/// the tokens of ServiceAccounts and OIDC, and has not expired. No other text is sent
/// to the API server.
fn may_be_valid(text: &str, now: SystemTime) -> bool {
    let part = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !part.is_empty() && part.bytes().all(fits)
    };
    let parts: Vec<_> = text.splitn(4, '.').collect();
    let [_, claims, _] = parts[..] else {
        return false;
    };
    if text.len() > MAX_TOKEN_BYTES || !parts.iter().all(|text| part(text)) {
        return false;
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
    let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(&claims) else {
        return false;
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ends = claims.get("exp").and_then(Value::as_f64);
    ends.is_none_or(|ends| ends + MAX_CLOCK_SKEW.as_secs_f64() > now.as_secs_f64())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
