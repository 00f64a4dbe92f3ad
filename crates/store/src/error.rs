//! Maps the errors of `hutch_kube::apply` to those of the interfaces.

use hutch_core::interfaces::ResourceError;
use hutch_kube::apply::Error;

/// Keeps the text. Every error without a counterpart becomes `Unavailable`.
pub(crate) fn refusal(error: Error) -> ResourceError {
    let text = error.to_string();
    match error {
        Error::Invalid(_) | Error::AdmissionDenied(_) | Error::QuotaExceeded(_) => {
            ResourceError::Invalid(text)
        }
        Error::Forbidden(_) | Error::NamespaceTerminating(_) => ResourceError::Forbidden(text),
        _ => ResourceError::Unavailable(text),
    }
}
