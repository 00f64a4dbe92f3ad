//! containerd's own folder with all images in it, unpacked once and cached.
//!
//! Importing 275 MB takes longer than the rest of a start, and the result is
//! always the same. So a containerd that does nothing else imports them into a
//! cached folder, and a new cluster gets a copy made of hard links: layers and
//! blobs are only ever read or unlinked. The databases are copied for real.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::build::{Cache, digest};
use crate::layout::RUN;
use crate::process::{Daemon, Spec};
use crate::progress::Progress;
use crate::shell;

/// The cached folder for this containerd (the folder of its programs).
pub(crate) fn fill(
    cache: &Cache,
    runtime: &Path,
    archives: &[PathBuf],
    progress: &Progress,
) -> Result<PathBuf> {
    let names = archives.iter().map(|path| path.display().to_string());
    let all: Vec<_> = names.chain([runtime.display().to_string()]).collect();
    let key = digest(&all.iter().map(String::as_str).collect::<Vec<_>>());
    cache.part("image-store", "1", &key, |folder| {
        let task = progress.task("unpacking the images");
        let run = Path::new(RUN).join(format!("store-{key}"));
        shell::ignore_missing(fs::remove_dir_all(&run))?;
        fs::create_dir_all(&run).with_context(|| format!("making {}", run.display()))?;
        let imported = import_all(folder, &run, runtime, archives);
        fs::remove_dir_all(&run)?;
        imported?;
        task.done();
        Ok(())
    })
}

fn import_all(folder: &Path, run: &Path, runtime: &Path, archives: &[PathBuf]) -> Result<()> {
    let config = run.join("containerd.toml");
    fs::write(&config, configuration(folder, run))?;
    let log = run.join("log");
    // It must not outlive us, however we end.
    let spec = Spec::new("setpriv", &log, run.join("record")).args(["--pdeathsig", "KILL"]);
    let spec = spec
        .arg(runtime.join("containerd"))
        .arg("--config")
        .arg(&config);
    let daemon = Daemon::spawn(&spec)?;
    let socket = run.join("containerd.sock");
    let imported = archives
        .iter()
        .try_for_each(|archive| import(&runtime.join("ctr"), &socket, archive));
    // SIGTERM, so that the databases are closed; it ends at once when idle.
    daemon.stop(Duration::from_secs(20))?;
    imported.with_context(|| {
        let said = fs::read_to_string(&log).unwrap_or_default();
        format!("containerd said:\n{}", shell::last_lines(&said, 10))
    })
}

/// In words that containerd 1.6 and 2 both know.
fn configuration(folder: &Path, run: &Path) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "{run}/state"
imports = []
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri",
]

[grpc]
  address = "{run}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{run}/opt"
"#,
        root = folder.display(),
        run = run.display(),
    )
}

/// Imports an archive as soon as containerd answers.
pub(crate) fn import(ctr: &Path, socket: &Path, archive: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if Instant::now() > deadline {
            bail!("containerd does not answer on {}", socket.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket);
    command
        .args(["-n", "k8s.io", "images", "import"])
        .arg(archive);
    shell::run(&mut command)
}

/// Whether the node has an image of that name.
pub(crate) fn has(ctr: &Path, socket: &Path, name: &str) -> Result<bool> {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket);
    command.args(["-n", "k8s.io", "images", "list", "--quiet"]);
    let names = shell::output(&mut command)?;
    Ok(names.lines().any(|known| known == name))
}

/// A copy of the cached folder, unless there is one already.
pub(crate) fn copy(store: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    // Another file system takes no hard links.
    let linked = shell::run(Command::new("cp").arg("-al").arg(store).arg(&partial));
    if linked.is_err() {
        shell::ignore_missing(fs::remove_dir_all(&partial))?;
        shell::run(Command::new("cp").arg("-a").arg(store).arg(&partial))?;
    }
    for database in [
        "io.containerd.metadata.v1.bolt/meta.db",
        "io.containerd.snapshotter.v1.overlayfs/metadata.db",
    ] {
        let copy = partial.join(database);
        fs::remove_file(&copy).with_context(|| format!("replacing {}", copy.display()))?;
        fs::copy(store.join(database), &copy)?;
    }
    Ok(fs::rename(partial, to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_shares_layers_but_no_database() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let files = [
            "io.containerd.metadata.v1.bolt/meta.db",
            "io.containerd.snapshotter.v1.overlayfs/metadata.db",
            "layer",
        ];
        for file in files {
            fs::create_dir_all(store.join(file).parent().unwrap()).unwrap();
            fs::write(store.join(file), "x").unwrap();
        }
        let to = folder.path().join("copy");
        copy(&store, &to).unwrap();
        let same = |file: &str| {
            let inode = |folder: &Path| fs::metadata(folder.join(file)).unwrap().ino();
            inode(&store) == inode(&to)
        };
        assert_eq!(files.map(same), [false, false, true]);
    }
}
