//! Root file systems: a minimal Debian with some packages. mmdebstrap makes them from the
//! package sources of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::Task;
use crate::shell;
use crate::versions::DEBIAN;

/// Writes a layer with these packages (comma-separated) and their dependencies. The shell
/// commands in `hooks` change it. They get its directory as `$1`.
pub(super) fn make(layer: &Path, packages: &str, hooks: &[String], task: &Task) -> Result<()> {
    let settings = layer.with_extension("conf");
    fs::write(&settings, apt_settings()?)?;
    let mut command = Command::new("mmdebstrap");
    command.args([
        "--variant=minbase",
        "--format=tar",
        &format!("--include={packages}"),
    ]);
    command.arg(format!("--aptopt={}", settings.display()));
    // Nobody reads these pages in a container. To unpack them takes a quarter of the time.
    for pages in ["doc", "man", "info", "locale"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{pages}/*"));
    }
    for hook in hooks {
        command.arg(format!("--customize-hook={hook}"));
    }
    command.arg(DEBIAN).arg(layer).args(sources());
    run(&mut command, &layer.with_extension("log"), task)?;
    Ok(fs::remove_file(&settings)?)
}

fn run(command: &mut Command, log: &Path, task: &Task) -> Result<()> {
    let output = fs::File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = command.spawn().context("cannot run mmdebstrap")?;
    loop {
        if let Some(status) = child.try_wait()? {
            let said = fs::read_to_string(log).unwrap_or_default();
            if !status.success() {
                bail!(
                    "mmdebstrap ended with {status}:\n{}",
                    shell::last_lines(&said, 20)
                );
            }
            return Ok(fs::remove_file(log)?);
        }
        task.still("working");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The machine's own package sources if they have the same release, because this machine
/// can reach them. Otherwise none, which means mmdebstrap's default.
fn sources() -> Vec<PathBuf> {
    let usual = [
        "/etc/apt/sources.list.d/debian.sources",
        "/etc/apt/sources.list",
    ]
    .map(PathBuf::from);
    let fits = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(DEBIAN));
    usual.into_iter().find(fits).into_iter().collect()
}

/// The settings with which apt on this machine reaches its package sources: proxies,
/// certificates, clock checks.
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
