//! Hutch itself: controllers and REST facade in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;

use super::background::{self, Background, Role};
use super::place::Place;
use super::{Quickstart, SANDBOXES, SYSTEM};
use crate::progress::Progress;

const NAME: &str = "hutch";
/// Variables of the caller that Hutch gets: its settings, and those that its libraries read
/// (TLS of the database, OpenTelemetry).
const PASSED_PREFIXES: [&str; 4] = ["HUTCH_", "POSTGRES_", "AWS_", "OTEL_"];
const PASSED: [&str; 3] = ["DATABASE_URL", "PGSSLROOTCERT", "RUST_LOG"];
/// Variables that the quick start reads itself. It gives Hutch arguments instead.
const NOT_PASSED: [&str; 5] = [
    "HUTCH_KUBECONFIG",
    "HUTCH_TESTCLUSTER",
    "HUTCH_LISTEN",
    "HUTCH_OPS_LISTEN",
    "HUTCH_AGENT_IMAGE",
];

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
            gets_variable: is_setting,
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
pub(super) fn stop(directory: &Path) -> Result<bool> {
    background::stop(directory, NAME)
}

fn is_setting(variable: &str) -> bool {
    let known = PASSED.contains(&variable)
        || PASSED_PREFIXES
            .iter()
            .any(|prefix| variable.starts_with(prefix));
    known && !NOT_PASSED.contains(&variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_hutch_is_passed_on() {
        for passed in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "DATABASE_URL",
            "HUTCH_MAX_SANDBOXES",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "PGSSLROOTCERT",
            "POSTGRES_HOST",
            "POSTGRES_PASSWORD",
            "RUST_LOG",
        ] {
            assert!(is_setting(passed), "{passed}");
        }
        for other in [
            "HOME",
            "HUTCH_KUBECONFIG",
            "HUTCH_LISTEN",
            "KUBECONFIG",
            "PGHOST",
        ] {
            assert!(!is_setting(other), "{other}");
        }
    }
}
