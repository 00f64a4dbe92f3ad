//! The images that a node starts with, made on the spot and cached as archives, and
//! the two that Hutch is shipped as. No registry and no Docker: root file systems
//! from Debian's own packages, and images that are a program or two.

mod archive;
mod hutch;
mod languages;
mod rootfs;
mod store;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::build::{Cache, digest};
use crate::progress::{Progress, Task};
use crate::versions::{BUSYBOX_IMAGE, DEBIAN, PAUSE_IMAGE, SANDBOX_IMAGE};

pub(crate) use archive::{Image, Layer};
pub use hutch::Images;
pub(crate) use languages::languages;
pub(crate) use store::{copy, fill, has, import};

/// Raised when the way an archive is made changes.
const FORMAT: &str = "2";

/// What the sandbox image is made of; part of its cache key.
const SANDBOX_PACKAGES: &str = "python3,bash,git,curl,procps,ca-certificates";
const SANDBOX_ENV: [&str; 4] = [
    "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "PYTHONUNBUFFERED=1",
    "PYTHON_VERSION=3.11",
];

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
    let key = digest(&[FORMAT, SANDBOX_IMAGE, SANDBOX_PACKAGES]);
    let folder = cache.part("sandbox-image", DEBIAN, &key, |folder| {
        let task = progress.task("the sandbox image from Debian packages (40 seconds)");
        sandbox(folder, &task)?;
        task.done();
        Ok(())
    })?;
    archives.push(folder.join("image.tar"));
    Ok(archives)
}

/// A minimal Debian with Python, bash, git and curl as `image.tar` in the folder.
fn sandbox(folder: &Path, task: &Task) -> Result<()> {
    let layer = folder.join("layer.tar");
    // Where the image that this one stands for has its interpreter.
    let links = ["python", "python3"]
        .map(|name| format!(r#"ln -s /usr/bin/python3 "$1/usr/local/bin/{name}""#));
    rootfs::make(&layer, SANDBOX_PACKAGES, &links, task)?;
    Image {
        env: &SANDBOX_ENV,
        ..Image::new(SANDBOX_IMAGE, &["python3"])
    }
    .write_with(&folder.join("image.tar"), &[&layer])?;
    Ok(std::fs::remove_file(layer)?)
}

fn write_pause(archive: &Path, program: &Path) -> Result<()> {
    let mut layer = Layer::new(archive)?;
    layer.file("pause", program)?;
    Image::new(PAUSE_IMAGE, &["/pause"]).write(archive, layer)
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
        env: &env,
        ..Image::new(BUSYBOX_IMAGE, &["sh"])
    }
    .write(archive, layer)
}
