//! The images that a node starts with, made on the spot and cached as archives.
//! No registry and no Docker: a root file system from Debian's own packages,
//! and two images that are a single program.

mod archive;
mod rootfs;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::build::{Cache, digest};
use crate::progress::Progress;
use crate::versions::{BUSYBOX_IMAGE, DEBIAN, PAUSE_IMAGE, SANDBOX_IMAGE};

pub(crate) use archive::{Image, Layer};

/// Raised when the way an archive is made changes.
const FORMAT: &str = "1";

/// The archives of all images, made where they are missing.
pub(crate) fn all(cache: &Cache, tools: &Path, progress: &Progress) -> Result<Vec<PathBuf>> {
    let pause = tools.join("pause");
    let small = [("pause", PAUSE_IMAGE), ("busybox", BUSYBOX_IMAGE)];
    let key = digest(&[
        FORMAT,
        PAUSE_IMAGE,
        BUSYBOX_IMAGE,
        &tools.display().to_string(),
    ]);
    let folder = cache.part("small-images", "1", &key, |folder| {
        write_pause(&folder.join("pause.tar"), &pause)?;
        write_busybox(&folder.join("busybox.tar"))
    })?;
    let mut archives: Vec<_> = small
        .iter()
        .map(|(name, _)| folder.join(format!("{name}.tar")))
        .collect();
    let key = digest(&[FORMAT, SANDBOX_IMAGE, rootfs::RECIPE]);
    let folder = cache.part("sandbox-image", DEBIAN, &key, |folder| {
        let task = progress.task("the sandbox image from Debian packages (40 seconds)");
        rootfs::make(folder, &task)?;
        task.done();
        Ok(())
    })?;
    archives.push(folder.join("image.tar"));
    Ok(archives)
}

fn write_pause(archive: &Path, program: &Path) -> Result<()> {
    let mut layer = Layer::new(archive)?;
    layer.file("pause", program)?;
    Image {
        name: PAUSE_IMAGE,
        env: &[],
        command: &["/pause"],
    }
    .write(archive, layer)
}

/// Debian's static busybox with a link for each of its applets.
fn write_busybox(archive: &Path) -> Result<()> {
    let program = Path::new("/bin/busybox");
    let mut layer = Layer::new(archive)?;
    layer.file("bin/busybox", program)?;
    let applets = crate::shell::output(std::process::Command::new(program).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("bin/{applet}"), "/bin/busybox")?;
    }
    for folder in ["tmp", "etc", "root"] {
        layer.folder(folder)?;
    }
    layer.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
    let env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    Image {
        name: BUSYBOX_IMAGE,
        env: &env,
        command: &["sh"],
    }
    .write(archive, layer)
}
