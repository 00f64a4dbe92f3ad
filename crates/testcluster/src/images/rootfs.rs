//! The sandbox image's files: a minimal Debian with Python, bash, git and curl,
//! put together by mmdebstrap from the package sources this machine uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::archive::Image;
use crate::progress::Task;
use crate::shell;
use crate::versions::{DEBIAN, SANDBOX_IMAGE};

/// What the image is made of; part of its cache key.
pub(super) const RECIPE: &str = "python3,bash,git,curl,procps,ca-certificates";

const ENV: [&str; 4] = [
    "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "PYTHONUNBUFFERED=1",
    "PYTHON_VERSION=3.11",
];

/// Makes `image.tar` in the folder.
pub(super) fn make(folder: &Path, task: &Task) -> Result<()> {
    let layer = folder.join("layer.tar");
    let settings = folder.join("apt.conf");
    fs::write(&settings, apt_settings()?)?;
    let mut command = Command::new("mmdebstrap");
    command.args([
        "--variant=minbase",
        "--format=tar",
        &format!("--include={RECIPE}"),
    ]);
    command.arg(format!("--aptopt={}", settings.display()));
    // Pages that nobody reads in a sandbox; they are a quarter of the unpacking.
    for pages in ["doc", "man", "info", "locale"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{pages}/*"));
    }
    // Where the image that this one stands for has its interpreter.
    command.arg(r#"--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python""#);
    command.arg(r#"--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python3""#);
    command.arg(DEBIAN).arg(&layer).args(sources());
    run(&mut command, task)?;
    fs::remove_file(&settings)?;
    let archive = folder.join("image.tar");
    Image {
        name: SANDBOX_IMAGE,
        env: &ENV,
        command: &["python3"],
    }
    .write_with(&archive, &layer)
}

fn run(command: &mut Command, task: &Task) -> Result<()> {
    let log = tempfile_beside(command)?;
    let output = fs::File::create(&log)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = command.spawn().context("cannot run mmdebstrap")?;
    loop {
        if let Some(status) = child.try_wait()? {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if !status.success() {
                bail!(
                    "mmdebstrap ended with {status}:\n{}",
                    shell::last_lines(&said, 20)
                );
            }
            return Ok(fs::remove_file(&log)?);
        }
        task.still("at work");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn tempfile_beside(command: &Command) -> Result<PathBuf> {
    let layer = command
        .get_args()
        .map(Path::new)
        .find(|path| path.ends_with("layer.tar"));
    Ok(layer
        .context("mmdebstrap has no target")?
        .with_extension("log"))
}

/// The machine's own package sources where they are of the same release: they
/// are the ones that can be reached from here. Else mmdebstrap's default.
fn sources() -> Vec<PathBuf> {
    let usual = [
        "/etc/apt/sources.list.d/debian.sources",
        "/etc/apt/sources.list",
    ]
    .map(PathBuf::from);
    let fits = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(DEBIAN));
    usual.into_iter().find(fits).into_iter().collect()
}

/// How this machine reaches its package sources: proxies, certificates, clocks.
fn apt_settings() -> Result<String> {
    let dump = shell::output(Command::new("apt-config").arg("dump"))?;
    let wanted = [
        "Acquire::http",
        "Acquire::https",
        "Acquire::Check-",
        "Acquire::Retries",
        "Acquire::ForceIPv",
    ];
    let lines = dump
        .lines()
        .filter(|line| wanted.iter().any(|prefix| line.starts_with(prefix)));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}
