//! Mounts below the cluster's folders: the one it needs, and taking all away.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

/// Mounts a folder at another place, so that it propagates: what a pod mounts below
/// that with bidirectional propagation reaches the machine and other pods.
pub(crate) fn share(folder: &Path, place: &Path) -> Result<()> {
    if below(place)?.iter().any(|point| point == place) {
        return Ok(());
    }
    rustix::mount::mount_bind(folder, place)
        .with_context(|| format!("mounting {}", place.display()))?;
    // Private first: its mounts are not to show below the folder, too.
    for flags in [
        MountPropagationFlags::PRIVATE,
        MountPropagationFlags::SHARED,
    ] {
        rustix::mount::mount_change(place, flags)
            .with_context(|| format!("sharing {}", place.display()))?;
    }
    Ok(())
}

/// Unmounts everything at or below a folder, the latest first. Lazily: a mount
/// that is still busy leaves with its last user.
pub(crate) fn detach(folder: &Path) -> Result<()> {
    // A mount may hide others; every round uncovers what the last one hid.
    for _ in 0..16 {
        let mounted = below(folder)?;
        if mounted.is_empty() {
            return Ok(());
        }
        for point in mounted.iter().rev() {
            match rustix::mount::unmount(point.as_path(), UnmountFlags::DETACH) {
                // Gone with another one through propagation.
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("unmounting {}", point.display()));
                }
            }
        }
    }
    anyhow::bail!("mounts below {} keep coming back", folder.display())
}

/// The mount points at or below a folder, in mount order.
pub(crate) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    Ok(points(&mounts)
        .into_iter()
        .filter(|point| point.starts_with(folder))
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
    fn a_folder_with_the_same_beginning_is_another_one() {
        assert!(!Path::new("/state/older2").starts_with("/state/older"));
    }
}
