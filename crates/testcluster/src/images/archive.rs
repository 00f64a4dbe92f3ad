//! Writes an image as an OCI archive (image-spec, image layout): the layers, a
//! configuration, a manifest that names both, and an index that names the manifest.
//! `store` imports archives.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::shell;

/// A layer in work. It is a file beside the archive that will contain it.
pub(crate) struct Layer {
    path: PathBuf,
    tar: Builder<BufWriter<File>>,
    directories: BTreeSet<PathBuf>,
}

impl Layer {
    pub fn new(archive: &Path) -> Result<Self> {
        let path = archive.with_extension("layer");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self {
            path,
            tar: Builder::new(BufWriter::new(file)),
            directories: BTreeSet::new(),
        })
    }

    /// Adds a file of the machine, executable for everybody.
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

    pub fn directory(&mut self, path: &str) -> Result<()> {
        let mode = if path == "tmp" { 0o1777 } else { 0o755 };
        self.parents(Path::new(path))?;
        self.directories.insert(path.into());
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

    /// Adds the directories above an entry. A runtime would choose a mode for them.
    fn parents(&mut self, path: &Path) -> Result<()> {
        let above: Vec<_> = path
            .ancestors()
            .skip(1)
            .filter(|dir| !dir.as_os_str().is_empty())
            .collect();
        for dir in above.into_iter().rev() {
            if self.directories.insert(dir.to_path_buf()) {
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

    /// Finishes the layer and returns its file.
    pub fn close(self) -> Result<PathBuf> {
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
    // A fixed time, so that the same files make the same image.
    header.set_mtime(1);
    header
}

/// The configuration of an image.
#[derive(Clone, Copy)]
pub(crate) struct Image<'a> {
    pub name: &'a str,
    pub env: &'a [&'a str],
    pub entrypoint: &'a [&'a str],
    pub command: &'a [&'a str],
    /// The user of its processes. Empty: root. It is a number, because the kubelet cannot
    /// check that a name is not root.
    pub user: &'a str,
}

impl<'a> Image<'a> {
    /// An image that runs `command` as root.
    pub fn new(name: &'a str, command: &'a [&'a str]) -> Self {
        Self {
            name,
            env: &[],
            entrypoint: &[],
            command,
            user: "",
        }
    }

    /// Writes the archive and removes the layer's own file.
    pub fn write(&self, archive: &Path, layer: Layer) -> Result<()> {
        let layer = layer.close()?;
        self.write_with(archive, &[&layer])?;
        Ok(fs::remove_file(layer)?)
    }

    /// Like [`Image::write`], with layers in files, the lowest first. The files stay.
    pub fn write_with(&self, archive: &Path, layers: &[&Path]) -> Result<()> {
        let layers: Vec<_> = layers
            .iter()
            .map(|path| Ok((path, sha256(path)?, fs::metadata(path)?.len())))
            .collect::<Result<_>>()?;
        let blobs: Vec<_> = layers
            .iter()
            .map(|(_, digest, size)| descriptor("layer.v1.tar", digest, *size))
            .collect();
        let digests: Vec<_> = layers
            .iter()
            .map(|(_, digest, _)| format!("sha256:{digest}"))
            .collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Env": self.env, "Entrypoint": self.entrypoint, "Cmd": self.command,
                "User": self.user, "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let mut out = Output(Builder::new(BufWriter::new(File::create(archive)?)));
        let config = out.blob("config.v1+json", &config)?;
        let manifest = out.blob(
            "manifest.v1+json",
            &json!({
                "schemaVersion": 2,
                "mediaType": media("manifest.v1+json"),
                "config": config,
                "layers": blobs,
            }),
        )?;
        for (path, digest, size) in &layers {
            out.append(&blob(digest), *size, &mut File::open(path)?)?;
        }
        let mut named = manifest;
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        named["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": tag,
        });
        out.text(
            "index.json",
            &json!({"schemaVersion": 2, "manifests": [named]}),
        )?;
        out.text("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
        Ok(out.0.into_inner()?.flush()?)
    }
}

/// The archive in work.
struct Output(Builder<BufWriter<File>>);

impl Output {
    fn append(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = header(EntryType::Regular, 0o644, size);
        Ok(self.0.append_data(&mut header, path, content)?)
    }

    fn text(&mut self, path: &str, content: &Value) -> Result<()> {
        let text = content.to_string();
        self.append(path, text.len() as u64, &mut text.as_bytes())
    }

    /// Adds a blob and returns its descriptor.
    fn blob(&mut self, kind: &str, content: &Value) -> Result<Value> {
        let text = content.to_string();
        let digest = hex(&Sha256::digest(text.as_bytes()));
        self.text(&blob(&digest), content)?;
        Ok(descriptor(kind, &digest, text.len() as u64))
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn media(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media(kind), "digest": format!("sha256:{digest}"), "size": size})
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Calls coreutils, because a layer has hundreds of megabytes and this program is usually
/// built without optimisation.
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
    fn an_archive_names_its_layer_and_has_every_parent_directory_once() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("image.tar");
        let mut layer = Layer::new(&archive).unwrap();
        let agent = directory.path().join("agent");
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
        let image = Image::new("a:b", &["/x"]);
        image.write_with(&archive, &[&layer, &layer]).unwrap();
        let found = names(&archive);
        assert_eq!(found.len(), 6, "{found:?}");
        let digest = sha256(&layer).unwrap();
        assert!(found.contains(&blob(&digest)), "{found:?}");
    }
}
