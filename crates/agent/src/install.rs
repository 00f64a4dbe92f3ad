//! `hutch-agent install DIR`: copies the binary, for an init container. The copy
//! appears completely or not at all, so a retried init container or a pod that starts
//! meanwhile never sees half a file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Copies this binary to `directory/hutch-agent` with mode 0755.
///
/// # Errors
/// The file system's error, with the path.
pub fn install(directory: &Path) -> io::Result<()> {
    let unfinished = directory.join(format!(".hutch-agent.{}", std::process::id()));
    let copied = copy(&unfinished)
        .and_then(|()| fs::rename(&unfinished, directory.join("hutch-agent")))
        .map_err(|problem| {
            io::Error::new(
                problem.kind(),
                format!("install to {}: {problem}", directory.display()),
            )
        });
    if copied.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    copied
}

fn copy(to: &Path) -> io::Result<()> {
    let mut from = File::open("/proc/self/exe")?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(to)?;
    io::copy(&mut from, &mut file)?;
    // The mode above is subject to the umask.
    file.set_permissions(Permissions::from_mode(0o755))
}
