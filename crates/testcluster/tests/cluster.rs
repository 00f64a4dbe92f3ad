//! Tests on a running cluster, which `HUTCH_TESTCLUSTER` names; `testcluster run` sets it.
//! Without it the test is skipped. It does not start a cluster, because that needs root and
//! long builds.

use std::path::Path;
use std::process::Command;

use hutch_testcluster::{Cluster, Options};

/// A pod with a user namespace, an image volume, an emptyDir and a claim runs from a loaded
/// image of one file, and answers an exec.
#[test]
fn a_pod_runs_from_a_loaded_image() {
    if std::env::var_os("HUTCH_TESTCLUSTER").is_none() {
        eprintln!("skipped: HUTCH_TESTCLUSTER is not set");
        return;
    }
    let cluster = Cluster::attach(&Options {
        progress: false,
        ..Options::default()
    })
    .unwrap();
    assert!(cluster.is_up());
    let busybox = Path::new("/bin/busybox");
    cluster
        .load_image(
            "hutch.dev/testcluster/self:test",
            &[("/bin/busybox", busybox)],
        )
        .unwrap();
    let namespace = format!("testcluster-{}", std::process::id());
    run(cluster.kubectl().args(["create", "namespace", &namespace]));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pod.yaml");
    let kubectl = || {
        let mut command = cluster.kubectl();
        command.args(["--namespace", &namespace]);
        command
    };
    run(kubectl().args(["apply", "-f", manifest]));
    run(kubectl().args(["wait", "--for=condition=Ready", "--timeout=60s", "pod/self"]));
    let script = "cat /proc/self/uid_map && touch /claim/a /empty/a && test -x /image/bin/busybox && echo fine";
    let said = run(kubectl().args(["exec", "self", "--", "/bin/busybox", "sh", "-c", script]));
    assert!(said.ends_with("fine\n"), "{said}");
    assert!(
        !said.contains("4294967295"),
        "the pod has no user namespace: {said}"
    );
    run(cluster
        .kubectl()
        .args(["delete", "namespace", &namespace, "--wait=false"]));
}

#[allow(clippy::unwrap_used)] // clippy does not see that this is test code
fn run(command: &mut Command) -> String {
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.success(),
        "{command:?}: {said}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    said
}
