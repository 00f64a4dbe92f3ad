//! Reads the mounts of a process's mount namespace (`proc_pid_mountinfo(5)`).

use std::fs;
use std::path::Path;

/// One line of a `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    id: u32,
    /// ID of the mount that this one is mounted on.
    parent: u32,
    /// Device number of the file system, as `major:minor`.
    pub device: String,
    /// The mount point, relative to the process's root.
    pub point: String,
    /// File system type, such as `fuse.s3fs`.
    pub kind: String,
    /// The source that the mounting program gave.
    pub source: String,
}

/// All mounts that the process sees.
///
/// # Errors
/// When no such process exists.
pub fn of(pid: u32) -> std::io::Result<Vec<MountEntry>> {
    let text = fs::read(format!("/proc/{pid}/mountinfo"))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

pub fn parse(text: &str) -> Vec<MountEntry> {
    text.lines().filter_map(line).collect()
}

/// The visible mount at `path`: the one that no other mount there covers. The IDs do not
/// give the order: a mount that was put beneath another has the higher ID.
pub fn top<'a>(mounts: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    let there = |entry: &&MountEntry| Path::new(&entry.point) == path;
    let covered = |entry: &MountEntry| {
        mounts
            .iter()
            .filter(there)
            .any(|other| other.parent == entry.id)
    };
    mounts.iter().filter(there).find(|entry| !covered(entry))
}

fn line(line: &str) -> Option<MountEntry> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let (id, parent) = (before.next()?.parse().ok()?, before.next()?.parse().ok()?);
    let device = before.next()?.to_owned();
    let point = unescaped(before.nth(1)?);
    let mut after = after.split(' ');
    Some(MountEntry {
        id,
        parent,
        device,
        point,
        kind: after.next()?.to_owned(),
        source: unescaped(after.next()?),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = text.to_owned();
    for (code, character) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(code, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visible_mount_is_the_one_that_no_other_covers() {
        let text = "70 71 0:40 / /data rw - fuse.s3fs dead rw\n\
                    71 46 0:41 / /data rw - fuse.s3fs alive rw\n\
                    72 46 0:42 / /other rw - tmpfs x rw\n";
        let found = parse(text);
        assert_eq!(top(&found, Path::new("/data")).unwrap().source, "dead");
        assert_eq!(
            top(&found[1..], Path::new("/data")).unwrap().source,
            "alive"
        );
        assert_eq!(top(&found, Path::new("/none")), None);
    }

    #[test]
    fn lines_are_read_with_and_without_optional_fields() {
        let text = "30 24 0:26 / /a\\040b rw shared:1 master:2 - fuse.s3fs s3fs rw\n\
                    31 30 8:1 /sub / rw - ext4 /dev/sda1 rw\n";
        let found = parse(text);
        assert_eq!((&*found[0].device, &*found[0].point), ("0:26", "/a b"));
        assert_eq!((&*found[0].kind, &*found[0].source), ("fuse.s3fs", "s3fs"));
        assert_eq!((&*found[1].point, &*found[1].kind), ("/", "ext4"));
    }
}
