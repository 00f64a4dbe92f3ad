//! How a bucket is doing that is a volume of a pod, whoever mounted it: asked of
//! the kernel, in the container.

use super::{Error, Process, mountinfo};
use std::path::Path;

use super::mounts::answers;

/// Whether there is a FUSE file system at `path` in the process's container, and
/// whether it has a server.
///
/// # Errors
/// What is wrong with it.
pub async fn look(process: Process, path: &str) -> Result<(), Error> {
    let mounts = mountinfo::of(process.pid).map_err(|_| Error::Gone)?;
    let fuse =
        mountinfo::top(&mounts, Path::new(path)).is_some_and(|top| top.kind.starts_with("fuse"));
    if !fuse {
        return Err(Error::Mounter(format!("no bucket is mounted at {path}")));
    }
    match answers(process, Path::new(path)).await {
        true => Ok(()),
        false => Err(Error::Mounter(format!(
            "what is mounted at {path} does not answer"
        ))),
    }
}
