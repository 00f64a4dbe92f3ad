//! Mounts below the cluster's directories: makes the shared one, and removes all of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

/// Bind-mounts a directory with shared propagation. A mount that a pod makes below it with
/// bidirectional propagation is visible on the machine and in other pods.
pub(crate) fn share(directory: &Path, place: &Path) -> Result<()> {
    if below(place)?.iter().any(|point| point == place) {
        return Ok(());
    }
    rustix::mount::mount_bind(directory, place)
        .with_context(|| format!("mounting {}", place.display()))?;
    // Private first: otherwise the mounts would also appear below the source directory.
    for flags in [
        MountPropagationFlags::PRIVATE,
        MountPropagationFlags::SHARED,
    ] {
        rustix::mount::mount_change(place, flags)
            .with_context(|| format!("sharing {}", place.display()))?;
    }
    Ok(())
}

/// Unmounts everything at or below a directory, the latest mount first. The unmount is
/// lazy: a busy mount disappears with its last user.
pub(crate) fn detach(directory: &Path) -> Result<()> {
    // A mount can hide others. Every round finds the mounts that the last round uncovered.
    for _ in 0..16 {
        let mounted = below(directory)?;
        if mounted.is_empty() {
            return Ok(());
        }
        for point in mounted.iter().rev() {
            match rustix::mount::unmount(point.as_path(), UnmountFlags::DETACH) {
                // Propagation has already removed it together with another mount.
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("unmounting {}", point.display()));
                }
            }
        }
    }
    anyhow::bail!("mounts below {} keep coming back", directory.display())
}

/// The mount points at or below a directory, in mount order.
pub(crate) fn below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    Ok(points(&mounts)
        .into_iter()
        .filter(|point| point.starts_with(directory))
        .collect())
}

fn points(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| unescape(point).into())
        .collect()
}

/// The kernel writes space, tab, newline and backslash in octal.
fn unescape(point: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(point.to_owned(), |text, (escaped, plain)| {
        text.replace(escaped, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_may_have_spaces() {
        assert_eq!(
            points("31 30 0:27 / /a/b\\040c rw - tmpfs tmpfs rw\n"),
            [PathBuf::from("/a/b c")]
        );
    }

    #[test]
    fn a_directory_with_the_same_prefix_is_another_one() {
        assert!(!Path::new("/state/older2").starts_with("/state/older"));
    }
}
