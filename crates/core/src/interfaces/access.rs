//! Authentication of credentials.

use std::sync::Arc;

use futures::future::BoxFuture;
use thiserror::Error;

use crate::access::Principal;

/// The reason why a credential has no principal.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AccessError {
    /// It is malformed, unknown or revoked. Clients do not learn which.
    #[error("the credential is not known")]
    Unknown,
    /// Its owner has no permission to use sandboxes in the namespace.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be checked at present.
    #[error("credentials cannot be checked now")]
    Unavailable,
}

/// Authenticates credentials.
pub trait Authenticator: Send + Sync {
    /// The principal of a credential. A principal with several namespaces acts in
    /// `namespace`, or in the facade's own if that is `None`.
    fn authenticate<'a>(
        &'a self,
        credential: &'a str,
        namespace: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Arc<Principal>, AccessError>>;
}
