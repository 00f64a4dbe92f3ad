//! Builds the two images of Hutch without Docker. A test compares them with the
//! `Dockerfile` at the top of the repository.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Image, Layer, rootfs};
use crate::build::{Cache, digest};
use crate::progress::Progress;
use crate::shell;
use crate::versions::DEBIAN;

/// The user of Hutch in its image. `hutch-node` mounts, so it runs as root.
const USER: &str = "65532:65532";
/// The packages that `hutch-node` needs.
const NODE_PACKAGES: &str = "ca-certificates,fuse,s3fs";
/// The file in which programs look for certificate authorities.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// The programs in the images of Hutch.
#[derive(Clone, Debug)]
pub struct Images {
    /// The static `hutch`.
    pub hutch: PathBuf,
    /// The static `hutch-agent`.
    pub agent: PathBuf,
    /// The static `hutch-node`.
    pub node: PathBuf,
}

impl Images {
    /// The programs beside the running one.
    ///
    /// # Errors
    /// If the path of the running binary is unknown, or a program is missing.
    pub fn here() -> Result<Self> {
        let own = std::env::current_exe().context("the running program has no path")?;
        let profile = own.parent().unwrap_or(Path::new("."));
        let target = profile.parent().unwrap_or(Path::new("."));
        Self::of(profile, target.join("agent/hutch-agent"))
    }

    /// `hutch` and `hutch-node` in the directory `programs`, and that agent.
    ///
    /// # Errors
    /// If one of them is missing.
    pub fn of(programs: &Path, agent: PathBuf) -> Result<Self> {
        let (hutch, node) = (programs.join("hutch"), programs.join("hutch-node"));
        for program in [&hutch, &agent, &node] {
            let there = program.is_file();
            anyhow::ensure!(there, "{} is missing: run `make image`", program.display());
        }
        Ok(Self { hutch, agent, node })
    }

    /// Writes the operator's image as an OCI archive. It contains `hutch`, the agent for
    /// the sandboxes, and the certificate authorities. `name` has a tag.
    ///
    /// # Errors
    /// If the archive cannot be written, or Debian's packages cannot be downloaded.
    pub fn operator(&self, name: &str, archive: &Path) -> Result<()> {
        let hutch = stripped(&self.hutch, archive)?;
        let mut layer = Layer::new(archive)?;
        layer.file("hutch", &hutch)?;
        layer.file("hutch-agent", &self.agent)?;
        layer.text(AUTHORITIES, &authorities(&base()?)?)?;
        fs::remove_file(hutch)?;
        let image = Image {
            entrypoint: &["/hutch"],
            user: USER,
            ..Image::new(name, &[])
        };
        image.write(archive, layer)
    }

    /// Writes the image of the node component: Debian with a mounter.
    ///
    /// # Errors
    /// Those of [`Images::operator`].
    pub fn node(&self, name: &str, archive: &Path) -> Result<()> {
        let node = stripped(&self.node, archive)?;
        let mut layer = Layer::new(archive)?;
        layer.file("hutch-node", &node)?;
        fs::remove_file(node)?;
        let layer = layer.close()?;
        let image = Image {
            entrypoint: &["/hutch-node"],
            env: &["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            ..Image::new(name, &[])
        };
        image.write_with(archive, &[&base()?, &layer])?;
        Ok(fs::remove_file(layer)?)
    }
}

/// The layer with the Debian packages of the node's image. Builds it if it is not cached.
fn base() -> Result<PathBuf> {
    let key = digest(&[NODE_PACKAGES, "1"]);
    let directory = Cache::open()?.part("node-base", DEBIAN, &key, |directory| {
        let task = Progress::new(true).task("the node image's Debian packages (20 seconds)");
        rootfs::make(&directory.join("layer.tar"), NODE_PACKAGES, &[], &task)?;
        task.done();
        Ok(())
    })?;
    Ok(directory.join("layer.tar"))
}

fn authorities(layer: &Path) -> Result<String> {
    let mut tar = tar::Archive::new(File::open(layer)?);
    for entry in tar.entries()? {
        let mut entry = entry?;
        if entry.path()?.ends_with(AUTHORITIES) {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(text);
        }
    }
    anyhow::bail!("the package ca-certificates has no {AUTHORITIES}")
}

/// Writes a copy without symbols. They are most of the size of a dev build.
fn stripped(program: &Path, archive: &Path) -> Result<PathBuf> {
    let copy = archive.with_extension("program");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&copy).arg(program);
    shell::run(&mut strip).with_context(|| format!("{} is not a program", program.display()))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_builds_the_same_images() {
        let file = include_str!("../../../../Dockerfile");
        let (operator, node) = file.split_once(" AS node\n").unwrap();
        let operator = operator.split_once("FROM scratch AS operator\n").unwrap().1;
        for line in [
            &format!("USER {USER}"),
            "COPY --from=build /out/hutch /out/hutch-agent /",
            &format!("COPY --from=packages /{AUTHORITIES} /{AUTHORITIES}"),
            r#"ENTRYPOINT ["/hutch"]"#,
        ] {
            assert!(operator.contains(line), "{line}");
        }
        let packages = NODE_PACKAGES.replace(',', " ");
        assert!(file.contains(&format!("--no-install-recommends {packages} ")));
        assert!(file.contains(&format!("FROM debian:{DEBIAN}-slim AS packages\n")));
        for line in [
            "COPY --from=build /out/hutch-node /hutch-node",
            r#"ENTRYPOINT ["/hutch-node"]"#,
        ] {
            assert!(node.contains(line), "{line}");
        }
        assert!(!node.contains("USER"));
    }
}
