//! Writing an image of one layer as a docker archive: a configuration, the
//! layer and a manifest that names both. Pure file work; importing is `node`'s.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::shell;

/// A layer that is being filled, in a file beside the archive to be.
pub(crate) struct Layer {
    path: PathBuf,
    tar: Builder<BufWriter<File>>,
    folders: BTreeSet<PathBuf>,
}

impl Layer {
    pub fn new(archive: &Path) -> Result<Self> {
        let path = archive.with_extension("layer");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self {
            path,
            tar: Builder::new(BufWriter::new(file)),
            folders: BTreeSet::new(),
        })
    }

    /// A file of the machine, executable for everybody.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        let mut file = File::open(from).with_context(|| format!("opening {}", from.display()))?;
        let size = file.metadata()?.len();
        self.entry(path, EntryType::Regular, 0o755, size, &mut file)
    }

    pub fn text(&mut self, path: &str, content: &str) -> Result<()> {
        self.entry(
            path,
            EntryType::Regular,
            0o644,
            content.len() as u64,
            &mut content.as_bytes(),
        )
    }

    pub fn folder(&mut self, path: &str) -> Result<()> {
        let mode = if path == "tmp" { 0o1777 } else { 0o755 };
        self.parents(Path::new(path))?;
        self.folders.insert(path.into());
        self.append(path, EntryType::Directory, mode, 0, &mut std::io::empty())
    }

    pub fn link(&mut self, path: &str, to: &str) -> Result<()> {
        self.parents(Path::new(path))?;
        let mut header = header(EntryType::Symlink, 0o777, 0);
        Ok(self.tar.append_link(&mut header, path, to)?)
    }

    fn entry(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        let path = path.trim_start_matches('/');
        self.parents(Path::new(path))?;
        self.append(path, kind, mode, size, content)
    }

    /// Folders above an entry; a runtime would make them with a mode of its own.
    fn parents(&mut self, path: &Path) -> Result<()> {
        let above: Vec<_> = path
            .ancestors()
            .skip(1)
            .filter(|dir| !dir.as_os_str().is_empty())
            .collect();
        for dir in above.into_iter().rev() {
            if self.folders.insert(dir.to_path_buf()) {
                let name = dir
                    .to_str()
                    .context("a path in an image is UTF-8")?
                    .to_owned();
                self.append(&name, EntryType::Directory, 0o755, 0, &mut std::io::empty())?;
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<()> {
        let mut header = header(kind, mode, size);
        self.tar
            .append_data(&mut header, path, content)
            .with_context(|| format!("adding {path}"))
    }

    /// The finished layer.
    fn close(self) -> Result<PathBuf> {
        self.tar.into_inner()?.flush()?;
        Ok(self.path)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    // Always the same instant, so that the same files make the same image.
    header.set_mtime(1);
    header
}

/// What an image is beside its files.
pub(crate) struct Image<'a> {
    pub name: &'a str,
    pub env: &'a [&'a str],
    pub command: &'a [&'a str],
}

impl Image<'_> {
    /// Writes the archive and removes the layer's own file.
    pub fn write(&self, archive: &Path, layer: Layer) -> Result<()> {
        self.write_with(archive, &layer.close()?)
    }

    /// The same for a layer that some other program has written.
    pub fn write_with(&self, archive: &Path, layer: &Path) -> Result<()> {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Env": self.env, "Cmd": self.command, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer)?)]},
        })
        .to_string();
        let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
        let manifest =
            json!([{"Config": config_name, "RepoTags": [self.name], "Layers": ["layer.tar"]}])
                .to_string();
        let mut tar = Builder::new(BufWriter::new(File::create(archive)?));
        for (name, content) in [
            (config_name.as_str(), &config),
            ("manifest.json", &manifest),
        ] {
            let mut header = header(EntryType::Regular, 0o644, content.len() as u64);
            tar.append_data(&mut header, name, content.as_bytes())?;
        }
        let mut file = File::open(layer)?;
        let mut header = header(EntryType::Regular, 0o644, file.metadata()?.len());
        tar.append_data(&mut header, "layer.tar", &mut file)?;
        tar.into_inner()?.flush()?;
        Ok(fs::remove_file(layer)?)
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// By coreutils: a layer has hundreds of megabytes, and our own code is most
/// often not optimised.
fn sha256(path: &Path) -> Result<String> {
    let said = shell::output(Command::new("sha256sum").arg("--").arg(path))?;
    Ok(said
        .split(' ')
        .next()
        .unwrap_or_default()
        .trim_start_matches('\\')
        .to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &Path) -> Vec<String> {
        let mut tar = tar::Archive::new(File::open(archive).unwrap());
        tar.entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn an_archive_names_its_layer_and_has_every_parent_folder_once() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        let mut layer = Layer::new(&archive).unwrap();
        let agent = folder.path().join("agent");
        fs::write(&agent, "a program").unwrap();
        layer.file("/opt/hutch/agent", &agent).unwrap();
        layer.text("opt/hutch/note", "hello").unwrap();
        layer.link("bin/sh", "/bin/busybox").unwrap();
        let layer = layer.close().unwrap();
        let found = names(&layer);
        let parents = [
            "opt",
            "opt/hutch",
            "opt/hutch/agent",
            "opt/hutch/note",
            "bin",
            "bin/sh",
        ];
        assert_eq!(found, parents);
        let image = Image {
            name: "a:b",
            env: &[],
            command: &["/x"],
        };
        image.write_with(&archive, &layer).unwrap();
        assert!(names(&archive).contains(&"layer.tar".to_owned()) && !layer.exists());
    }
}
