//! Attached pods that a conversation cannot use: the answer says what to do.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::project_attach::{BUSYBOX, PYTHON, create, hutch, name, runs, theirs};
use crate::project_resolution::until;
use crate::support::World;
use crate::support::environment::agent_binary;
use crate::support::postgres::Postgres;

/// An image that is a single program.
const NO_SHELL: &str = "hutch.dev/testcluster/pause:1";

#[tokio::test(flavor = "multi_thread")]
async fn an_unsuitable_container_is_refused_with_advice() {
    let (world, postgres) = (World::new("refuses").await, Postgres::start().await);
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(agent_binary()).unwrap();
    // `e_machine` of the ELF header: the other architecture.
    bytes[18] = if bytes[18] == 62 { 183 } else { 62 };
    let foreign = directory.path().join("foreign");
    std::fs::write(&foreign, bytes).unwrap();
    let script = directory.path().join("broken");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let missing = directory.path().join("missing");
    let good = agent_binary();
    let shared = json!([{"name": "shm", "mountPath": "/dev/shm", "readOnly": true}]);
    let sealed = json!({"securityContext": {"readOnlyRootFilesystem": true}, "workingDir": "/",
                        "volumeMounts": shared});
    let cases = [
        (
            "no-shell",
            NO_SHELL,
            json!({"command": null, "workingDir": "/"}),
            &good,
            "use an image with sh",
        ),
        ("sealed", PYTHON, sealed, &good, "mount an emptyDir at /tmp"),
        (
            "foreign",
            BUSYBOX,
            json!({}),
            &foreign,
            "set --agent-binary to one for it",
        ),
        (
            "broken",
            BUSYBOX,
            json!({}),
            &script,
            "the agent does not run in it",
        ),
        ("missing", BUSYBOX, json!({}), &missing, "--agent-binary"),
    ];
    for (id, image, container, binary, wanted) in cases {
        postgres.project(id).await;
        name(&postgres, id, id).await;
        let mut pod = theirs(id, image, container);
        pod["spec"]["volumes"] = json!([{"name": "shm", "emptyDir": {}}]);
        create(&world, pod).await;
        runs(&world, id).await;
        let (_hutch, backend) = hutch(&world, &postgres, binary, &format!("s-{id}")).await;
        let begin = Instant::now();
        let reported = backend
            .call("/execute", json!({"command": "true"}))
            .await
            .fails(503);
        assert!(reported.contains(wanted), "{id}: {reported}");
        // The error is known at once, and nothing is retried.
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "{id}: {:?}",
            begin.elapsed()
        );
    }
    // The agent is not started, and the answer has the reason.
    let mut pod = theirs("pending", BUSYBOX, json!({}));
    pod["spec"]["nodeSelector"] = json!({"no": "such"});
    create(&world, pod).await;
    postgres.project("pending").await;
    name(&postgres, "pending", "pending").await;
    let mut flags = postgres.flags(postgres.port);
    flags.push("--ready-timeout=2s".to_owned());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let (_hutch, backend) = world.with_backend("s-pending", &flags).await;
    until(&backend, "connected").await;
    let reported = backend
        .call("/execute", json!({"command": "true"}))
        .await
        .fails(503);
    assert!(reported.contains("container main: Pending"), "{reported}");
    assert_eq!(world.count().await, 0);
}
