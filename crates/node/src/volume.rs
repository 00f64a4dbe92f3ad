//! Checks a bucket that is a volume of a pod, through the container's mount. It works for
//! every driver's volumes.

use std::path::Path;

use super::mounts::{ProbeError, ProbeTarget, Probes};
use super::{Error, Process};

/// Probes the mount that a process sees at `path`: the mounter, and the S3 service through
/// it if `target` is [`ProbeTarget::Service`]. It takes 11 s at most.
///
/// # Errors
/// When the mounter or the S3 service does not answer, or answers with an error.
pub async fn check(
    probes: &Probes,
    process: Process,
    path: &Path,
    target: ProbeTarget,
) -> Result<(), Error> {
    match probes.run(process, path, target).await {
        Ok(()) => Ok(()),
        Err((silent, ProbeError::Timeout)) => Err(silent.timeout_error()),
        Err((_, ProbeError::Failed(error))) => Err(error),
        Err((_, ProbeError::Lost)) => Err(Error::Mounter(format!(
            "what is mounted at {} has lost its mounter",
            path.display()
        ))),
    }
}
