//! How a bucket is doing that is a volume of a pod, whoever mounted it: asked of
//! the kernel, in the container.

use std::path::Path;

use super::mounts::{Probes, Trouble};
use super::{Error, Process};

/// Whether the bucket that a process sees at `path` answers, and if `remote` the S3
/// service behind it. Takes 11 s at most.
///
/// # Errors
/// What is wrong with it.
pub async fn look(
    probes: &Probes,
    process: Process,
    path: &Path,
    remote: bool,
) -> Result<(), Error> {
    match probes.ask(process, path, remote).await {
        Ok(()) => Ok(()),
        Err((who, Trouble::Silent)) => Err(who.silent()),
        Err((_, Trouble::Says(error))) => Err(error),
        Err((_, Trouble::Lost)) => Err(Error::Mounter(format!(
            "what is mounted at {} has lost its mounter",
            path.display()
        ))),
    }
}
