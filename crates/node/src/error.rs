//! The reasons why a mount or unmount failed. The texts are for the user of the sandbox. They
//! contain no credentials and no details of the node.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use hutch_core::reasons::Reason;

/// The reason why a mount is not, or not yet, in the requested state.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The S3 service refuses the credentials, or they lack a permission.
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
    /// Something else occupies the mount point.
    #[error("{0}")]
    PathTaken(String),
    /// A process uses the mount.
    #[error("a process uses {0}")]
    Busy(String),
    /// The container or its process has ended.
    #[error("the container is gone")]
    Gone,
    /// Any other failure of the mounter or the system.
    #[error("{0}")]
    Mounter(String),
}

impl Error {
    /// The reason in statuses, events and metrics.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AccessDenied(_) => Reason::AccessDenied,
            Self::NoSuchBucket(_) => Reason::NoSuchBucket,
            Self::Unreachable(_) => Reason::EndpointUnreachable,
            Self::BadOption(_) => Reason::BadOption,
            Self::PathTaken(_) => Reason::PathTaken,
            Self::Busy(_) => Reason::Busy,
            Self::Gone | Self::Mounter(_) => Reason::MounterFailed,
        }
    }

    /// True if a retry cannot succeed until a user changes something.
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
