//! containerd's directory with all images, unpacked once and cached.
//!
//! An import of 275 MB takes longer than the rest of a start, and the result is always the
//! same. So a separate containerd imports them into a cached directory once. A new cluster
//! gets a copy of it with hard links, because containerd only reads or unlinks layers and
//! blobs. It writes to its databases, so those are real copies.

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

/// The cached directory for this containerd. `runtime` is the directory of its programs.
pub(crate) fn fill(
    cache: &Cache,
    runtime: &Path,
    archives: &[PathBuf],
    progress: &Progress,
) -> Result<PathBuf> {
    let names = archives.iter().map(|path| path.display().to_string());
    let all: Vec<_> = names.chain([runtime.display().to_string()]).collect();
    let key = digest(&all.iter().map(String::as_str).collect::<Vec<_>>());
    cache.part("image-store", "1", &key, |directory| {
        let task = progress.task("unpacking the images");
        let run = Path::new(RUN).join(format!("store-{key}"));
        shell::ignore_missing(fs::remove_dir_all(&run))?;
        fs::create_dir_all(&run).with_context(|| format!("making {}", run.display()))?;
        let imported = import_all(directory, &run, runtime, archives);
        fs::remove_dir_all(&run)?;
        imported?;
        task.done();
        Ok(())
    })
}

fn import_all(directory: &Path, run: &Path, runtime: &Path, archives: &[PathBuf]) -> Result<()> {
    let config = run.join("containerd.toml");
    fs::write(&config, configuration(directory, run))?;
    let log = run.join("log");
    // It must not outlive this process, even after SIGKILL.
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
    // SIGTERM, so that it closes its databases. An idle containerd ends at once.
    daemon.stop(Duration::from_secs(20))?;
    imported.with_context(|| {
        let said = fs::read_to_string(&log).unwrap_or_default();
        format!("containerd said:\n{}", shell::last_lines(&said, 10))
    })
}

/// A configuration that both containerd 1.6 and 2 accept.
fn configuration(directory: &Path, run: &Path) -> String {
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
        root = directory.display(),
        run = run.display(),
    )
}

/// Waits until containerd answers, and imports an archive.
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

/// True if the node has an image of that name.
pub(crate) fn has(ctr: &Path, socket: &Path, name: &str) -> Result<bool> {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket);
    command.args(["-n", "k8s.io", "images", "list", "--quiet"]);
    let names = shell::output(&mut command)?;
    Ok(names.lines().any(|known| known == name))
}

/// Copies the cached directory, unless the copy exists.
pub(crate) fn copy(store: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    // Hard links do not work across file systems.
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
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let files = [
            "io.containerd.metadata.v1.bolt/meta.db",
            "io.containerd.snapshotter.v1.overlayfs/metadata.db",
            "layer",
        ];
        for file in files {
            fs::create_dir_all(store.join(file).parent().unwrap()).unwrap();
            fs::write(store.join(file), "x").unwrap();
        }
        let to = directory.path().join("copy");
        copy(&store, &to).unwrap();
        let same = |file: &str| {
            let inode = |directory: &Path| fs::metadata(directory.join(file)).unwrap().ino();
            inode(&store) == inode(&to)
        };
        assert_eq!(files.map(same), [false, false, true]);
    }
}
