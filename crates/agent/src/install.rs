//! `hutch-agent install DIR`: the binary copies itself, for an init container.
//! The copy appears whole or not at all, so that a retried init container and a
//! pod that starts meanwhile never meet half a file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Copies this binary to `folder/hutch-agent` with mode 0755.
///
/// # Errors
/// What the file system says, with the path it was about.
pub fn install(folder: &Path) -> io::Result<()> {
    let unfinished = folder.join(format!(".hutch-agent.{}", std::process::id()));
    let copied = copy(&unfinished)
        .and_then(|()| fs::rename(&unfinished, folder.join("hutch-agent")))
        .map_err(|problem| {
            io::Error::new(
                problem.kind(),
                format!("install to {}: {problem}", folder.display()),
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
