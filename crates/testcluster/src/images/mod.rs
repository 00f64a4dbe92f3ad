//! Builds the images that a node starts with, and the two images of Hutch, without a
//! registry and without Docker. `rootfs` makes root file systems from Debian's packages,
//! `archive` writes images, and `store` unpacks them for containerd.

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

/// Part of the cache keys. Increase it if archives are written in another way.
const FORMAT: &str = "2";

/// The packages of the sandbox image; part of its cache key.
const SANDBOX_PACKAGES: &str = "python3,bash,git,curl,procps,ca-certificates";
const SANDBOX_ENV: [&str; 4] = [
    "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "PYTHONUNBUFFERED=1",
    "PYTHON_VERSION=3.11",
];

/// The archives of all images. Builds those that are not cached.
pub(crate) fn all(cache: &Cache, tools: &Path, progress: &Progress) -> Result<Vec<PathBuf>> {
    let pause = tools.join("pause");
    let small = [("pause", PAUSE_IMAGE), ("busybox", BUSYBOX_IMAGE)];
    let key = digest(&[
        FORMAT,
        PAUSE_IMAGE,
        BUSYBOX_IMAGE,
        &tools.display().to_string(),
    ]);
    let directory = cache.part("small-images", "1", &key, |directory| {
        write_pause(&directory.join("pause.tar"), &pause)?;
        write_busybox(&directory.join("busybox.tar"))
    })?;
    let mut archives: Vec<_> = small
        .iter()
        .map(|(name, _)| directory.join(format!("{name}.tar")))
        .collect();
    let key = digest(&[FORMAT, SANDBOX_IMAGE, SANDBOX_PACKAGES]);
    let directory = cache.part("sandbox-image", DEBIAN, &key, |directory| {
        let task = progress.task("the sandbox image from Debian packages (40 seconds)");
        sandbox(directory, &task)?;
        task.done();
        Ok(())
    })?;
    archives.push(directory.join("image.tar"));
    Ok(archives)
}

/// Writes a minimal Debian with Python, bash, git and curl as `image.tar` to the directory.
fn sandbox(directory: &Path, task: &Task) -> Result<()> {
    let layer = directory.join("layer.tar");
    // The public image of this name has its interpreter there.
    let links = ["python", "python3"]
        .map(|name| format!(r#"ln -s /usr/bin/python3 "$1/usr/local/bin/{name}""#));
    rootfs::make(&layer, SANDBOX_PACKAGES, &links, task)?;
    Image {
        env: &SANDBOX_ENV,
        ..Image::new(SANDBOX_IMAGE, &["python3"])
    }
    .write_with(&directory.join("image.tar"), &[&layer])?;
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
    for directory in ["tmp", "etc", "root"] {
        layer.directory(directory)?;
    }
    layer.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
    let env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    Image {
        env: &env,
        ..Image::new(BUSYBOX_IMAGE, &["sh"])
    }
    .write(archive, layer)
}
