//! Authenticates a credential: an API key, or else a Kubernetes token.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::api_keys::ApiKeyStore;
use super::tokens::TokenReviews;
use hutch_core::access::{ApiKey, Principal, is_namespace};
use hutch_core::interfaces::{AccessError, Authenticator};

/// Tries API keys first, because they need no call of the API server.
pub struct CredentialAuthenticator {
    keys: ApiKeyStore,
    tokens: TokenReviews,
    /// The namespace for requests with a token that name none.
    namespace: String,
}

impl CredentialAuthenticator {
    /// `namespace` is used for requests with a token that name none.
    pub const fn new(keys: ApiKeyStore, tokens: TokenReviews, namespace: String) -> Self {
        Self {
            keys,
            tokens,
            namespace,
        }
    }
}

impl Authenticator for CredentialAuthenticator {
    fn authenticate<'a>(
        &'a self,
        credential: &'a str,
        namespace: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Arc<Principal>, AccessError>> {
        async move {
            if let Some(key) = ApiKey::parse(credential) {
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
