//! Why something could not be mounted or unmounted. Texts are for the user of the
//! sandbox and name neither keys nor anything else of the node's.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use hutch_core::buckets::reasons;

/// Why a mount is not, or not yet, as it was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The S3 service refuses the credentials, or what they are used for.
    #[error("the S3 service refuses the credentials ({0})")]
    AccessDenied(String),
    /// The S3 service has no such bucket.
    #[error("the S3 service has no bucket {0}")]
    NoSuchBucket(String),
    /// The S3 service cannot be reached, or does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// An option is not allowed, or the mounter does not know it.
    #[error("{0}")]
    BadOption(String),
    /// Something is in the way of the mount point.
    #[error("{0}")]
    PathTaken(String),
    /// A process uses the mount.
    #[error("a process uses {0}")]
    Busy(String),
    /// The container, or its process, is not there any more.
    #[error("the container is gone")]
    Gone,
    /// Anything else.
    #[error("{0}")]
    Mounter(String),
}

impl Error {
    /// The reason as status and conditions have it, see
    /// [`hutch_core::buckets::reasons`].
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AccessDenied(_) => reasons::ACCESS_DENIED,
            Self::NoSuchBucket(_) => reasons::NO_SUCH_BUCKET,
            Self::Unreachable(_) => reasons::UNREACHABLE,
            Self::BadOption(_) => reasons::BAD_OPTION,
            Self::PathTaken(_) => reasons::PATH_TAKEN,
            Self::Busy(_) => reasons::BUSY,
            Self::Gone | Self::Mounter(_) => reasons::MOUNTER_FAILED,
        }
    }

    /// Whether trying again in haste is of no use: somebody has to change
    /// something first.
    pub const fn needs_a_change(&self) -> bool {
        matches!(
            self,
            Self::AccessDenied(_) | Self::NoSuchBucket(_) | Self::BadOption(_) | Self::PathTaken(_)
        )
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Mounter(error.to_string())
    }
}
