//! The reasons why a volume cannot be mounted. The text is for the pod's events. The reason is
//! for the sandbox's status.

use jiff::Timestamp;
use tonic::{Code, Status};

use super::volume::InvalidVolume;
use crate::{Error, Refusal};
use hutch_core::reasons::Reason;

/// The reason why a call for a volume failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    /// The volume or its Secret is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidVolume),
    /// The endpoint has no TLS. The text names it.
    #[error("{reason}: {0}", reason = Reason::InsecureEndpoint)]
    Insecure(String),
    /// It could not be mounted, attached or detached.
    #[error("{reason}: {0}", reason = .0.reason())]
    Mount(#[from] Error),
}

impl VolumeError {
    /// After `Unavailable` the kubelet assumes that something may be mounted. After the other
    /// codes it assumes that nothing is.
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Insecure(_) => Code::InvalidArgument,
            Self::Mount(error) => match error {
                Error::AccessDenied(_) => Code::Unauthenticated,
                Error::NoSuchBucket(_) => Code::NotFound,
                Error::Unreachable(_) => Code::Unavailable,
                Error::BadOption(_) => Code::InvalidArgument,
                Error::PathTaken(_) | Error::Busy(_) => Code::FailedPrecondition,
                Error::Gone | Error::Mounter(_) => Code::Internal,
            },
        }
    }

    /// The refusal to report in the sandbox's status.
    pub fn refusal(&self) -> Refusal {
        let (reason, text) = match self {
            Self::Invalid(invalid) => (Reason::MounterFailed, invalid.to_string()),
            Self::Insecure(text) => (Reason::InsecureEndpoint, text.clone()),
            Self::Mount(error) => (error.reason(), error.to_string()),
        };
        let at = Timestamp::now();
        Refusal { reason, text, at }
    }
}

impl From<VolumeError> for Status {
    fn from(error: VolumeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<InvalidVolume> for Status {
    fn from(invalid: InvalidVolume) -> Self {
        VolumeError::from(invalid).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_text_begins_with_the_reason_and_the_refusal_has_it_apart() {
        for (error, code, text, reason, own) in [
            (
                Error::AccessDenied("403".into()).into(),
                Code::Unauthenticated,
                "AccessDenied: the S3 service refuses the credentials (403)",
                Reason::AccessDenied,
                "the S3 service refuses the credentials (403)",
            ),
            (
                VolumeError::Insecure("http://s3 is http".into()),
                Code::InvalidArgument,
                "InsecureEndpoint: http://s3 is http",
                Reason::InsecureEndpoint,
                "http://s3 is http",
            ),
            (
                Error::Mounter("a: b".into()).into(),
                Code::Internal,
                "MounterFailed: a: b",
                Reason::MounterFailed,
                "a: b",
            ),
            (
                InvalidVolume::of("attribute options: x").into(),
                Code::InvalidArgument,
                "attribute options: x",
                Reason::MounterFailed,
                "attribute options: x",
            ),
        ] {
            let refusal: Refusal = VolumeError::refusal(&error);
            assert_eq!((refusal.reason, &*refusal.text), (reason, own));
            let status = Status::from(error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}
