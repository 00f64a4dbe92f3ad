//! The manifests that users copy.

use std::path::Path;

use hutch_api::{Phase, Sandbox, SandboxSession};
use hutch_core::conditions;

use crate::support::World;

fn is_settled(sandbox: &Sandbox) -> bool {
    let wanted = match sandbox.spec.suspended {
        true => Phase::Suspended,
        false => Phase::Ready,
    };
    let status = sandbox.status.as_ref();
    status.is_some_and(|status| status.phase == wanted)
}

fn is_open(session: &SandboxSession) -> bool {
    let status = session.status.as_ref();
    status.is_some_and(|status| conditions::holds(&status.conditions, conditions::READY))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_can_be_applied_and_becomes_ready() {
    let world = World::new("samples").await;
    let _hutch = world.hutch("controller", &[]).await;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    let mut apply = world.environment.kubectl();
    apply.args(["apply", "-n", &world.namespace, "-o", "name", "-f"]);
    let ended = apply.arg(&samples).output().unwrap();
    let printed = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{printed}");
    let names = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(
        names.lines().count(),
        std::fs::read_dir(samples).unwrap().count()
    );
    for line in names.lines() {
        let (kind, name) = line.split_once('/').unwrap();
        match kind.split('.').next() {
            Some("sandbox") => drop(world.sandbox(name, is_settled).await),
            _ => drop(world.object(name, is_open).await),
        }
    }
}
