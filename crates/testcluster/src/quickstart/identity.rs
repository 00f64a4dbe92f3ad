//! The kubeconfigs of Hutch's processes. Each has the rights of its ServiceAccount only,
//! so that a right that `config/rbac` lacks fails here and not in production.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::place::Place;
use super::{SANDBOXES, SYSTEM};
use crate::shell;

/// Lifetime of the token. Every quick start writes a new one, and a running Hutch reads
/// the file again by itself.
const TOKEN_DURATION: &str = "--duration=720h";

/// Writes the kubeconfig of that ServiceAccount and returns its path.
pub(super) fn kubeconfig(place: &Place, account: &str) -> Result<PathBuf> {
    let mut create = place.kubectl();
    create.args([
        "create",
        "token",
        account,
        "--namespace",
        SYSTEM,
        TOKEN_DURATION,
    ]);
    let token = place.directory.join(format!("{account}.token"));
    write_private(&token, shell::output(&mut create)?.trim())?;
    let mut view = place.kubectl();
    view.args([
        "config",
        "view",
        "--raw",
        "--minify",
        "--flatten",
        "--output=json",
    ]);
    let theirs: Value = serde_json::from_str(&shell::output(&mut view)?)
        .context("the kubeconfig cannot be read")?;
    let ours = config(&theirs["clusters"][0]["cluster"], &token);
    let path = place.directory.join(format!("{account}.kubeconfig"));
    write_private(&path, &ours.to_string())?;
    Ok(path)
}

/// A kubeconfig in JSON, which is valid YAML.
fn config(cluster: &Value, token: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "hutch", "user": {"tokenFile": token}}],
        "contexts": [{
            "name": "hutch",
            "context": {"cluster": "cluster", "user": "hutch", "namespace": SANDBOXES},
        }],
        "current-context": "hutch",
    })
}

/// Replaces a file atomically. Only its owner can read it.
pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    shell::ignore_missing(fs::remove_file(&partial))?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&partial)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrators_credentials_are_not_copied() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = json!({"server": "https://example.invalid:6443"});
        let made = config(&cluster, Path::new("/t"));
        let user = made["users"][0]["user"].as_object().unwrap();
        assert_eq!(user.keys().collect::<Vec<_>>(), ["tokenFile"]);
        let path = directory.path().join("config");
        write_private(&path, "secret").unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}
