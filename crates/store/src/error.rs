//! From the API server's refusals to those of the core's interfaces.

use hutch_core::interfaces::ResourceError;
use hutch_kube::apply::Error;

/// The same refusal in the words of the core.
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
