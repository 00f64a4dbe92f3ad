//! Who is behind a credential: the owner of an API key, else of a Kubernetes token.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::api_keys::KeyRing;
use super::tokens::TokenReviews;
use hutch_core::access::{Key, Principal, is_namespace};
use hutch_core::interfaces::{AccessError, Authenticator};

/// Keys first, which cost no call.
pub struct Credentials {
    keys: KeyRing,
    tokens: TokenReviews,
    /// Where tokens act that name no namespace.
    namespace: String,
}

impl Credentials {
    /// Over these keys and tokens.
    pub const fn new(keys: KeyRing, tokens: TokenReviews, namespace: String) -> Self {
        Self {
            keys,
            tokens,
            namespace,
        }
    }
}

impl Authenticator for Credentials {
    fn authenticate<'a>(
        &'a self,
        credential: &'a str,
        namespace: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Arc<Principal>, AccessError>> {
        async move {
            if let Some(key) = Key::parse(credential) {
                if !self.keys.synced() {
                    return Err(AccessError::Unavailable);
                }
                return self.keys.principal(&key).ok_or(AccessError::Unknown);
            }
            let namespace = namespace.unwrap_or(&self.namespace);
            if !is_namespace(namespace) {
                return Err(AccessError::Unknown);
            }
            self.tokens.principal(credential, namespace).await
        }
        .boxed()
    }
}
