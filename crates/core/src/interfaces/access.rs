//! Who is behind a credential.

use std::sync::Arc;

use futures::future::BoxFuture;
use thiserror::Error;

use crate::access::Principal;

/// Why a credential leads to nobody.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AccessError {
    /// It is nobody's: malformed, unknown or revoked, which is told to nobody.
    #[error("the credential is not known")]
    Unknown,
    /// It is somebody's who may not use sandboxes there.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be checked now.
    #[error("credentials cannot be checked now")]
    Unavailable,
}

/// Tells who presents a credential.
pub trait Authenticator: Send + Sync {
    /// The principal behind a credential. One that may act in several namespaces
    /// acts in `namespace`, or in the facade's where that is `None`.
    fn authenticate<'a>(
        &'a self,
        credential: &'a str,
        namespace: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Arc<Principal>, AccessError>>;
}
