//! Hutch itself: controllers and REST facade in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;

use super::background::{self, Background, Role};
use super::place::Place;
use super::{Quickstart, SANDBOXES, SYSTEM};
use crate::progress::Progress;

const NAME: &str = "hutch";

/// A started Hutch. It may not be ready yet.
pub(super) struct Operator(pub Background);

impl Operator {
    /// Returns the running Hutch, or starts one.
    pub fn ensure(
        quickstart: &Quickstart,
        place: &Place,
        image: &str,
        kubeconfig: &Path,
        progress: &Progress,
    ) -> Result<Self> {
        let arguments = [
            "run",
            "--insecure-no-auth",
            "--agent-image",
            image,
            "--namespace",
            SANDBOXES,
            "--lease-namespace",
            SYSTEM,
            "--operator-namespace",
            SYSTEM,
        ];
        let role = Role {
            name: NAME,
            program: &quickstart.hutch,
            arguments: arguments.map(str::to_owned).to_vec(),
            kubeconfig,
            rest: Some(8787),
            ops: 9787,
        };
        Background::ensure(&role, place, progress).map(Self)
    }

    /// URL of the REST facade.
    pub fn url(&self) -> String {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        format!("http://{}", self.0.listens_on().unwrap_or(nowhere))
    }
}

/// Stops it. Returns true if one was recorded.
pub(super) fn stop(folder: &Path) -> Result<bool> {
    background::stop(folder, NAME)
}
