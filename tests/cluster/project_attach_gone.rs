//! An attached pod that is deleted while a conversation uses it.

use kube::api::DeleteParams;
use serde_json::json;

use crate::project_attach::{BUSYBOX, create, hutch, known, name, runs, theirs};
use crate::project_resolution::of_project;
use crate::support::World;
use crate::support::environment::agent_binary;
use crate::support::postgres::Postgres;
use crate::support::world::eventually;
use k8s_openapi::api::core::v1::Pod;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_pod_is_deleted_fails_and_the_next_one_has_a_sandbox() {
    let (world, postgres) = (World::new("goes").await, Postgres::start().await);
    postgres.project("P").await;
    name(&postgres, "P", "theirs").await;
    create(&world, theirs("theirs", BUSYBOX, json!({}))).await;
    runs(&world, "theirs").await;
    let (_hutch, backend) = hutch(&world, &postgres, &agent_binary(), "s-P").await;
    known(&backend, "theirs").await;
    assert_eq!(backend.stdout("hostname").await, "theirs\n");

    let slow = json!({"command": "echo begun > begun; sleep 1000", "timeout": 600});
    let slow = backend.call("/execute", slow);
    let goes = async {
        eventually("the command runs", async || {
            let body = backend.read("begun").await;
            (body.status == 200).then_some(())
        })
        .await;
        let now = DeleteParams::default().grace_period(0);
        world.pods().delete("theirs", &now).await.unwrap();
        world.gone::<Pod>("theirs").await;
        // The next command does not wait for an answer to the first one.
        backend.stdout("hostname").await
    };
    let (lost, host) = tokio::join!(slow, goes);
    let output = lost.fails(500);
    assert!(output.contains("lost"), "{output}");
    let made = of_project(&world, "P").await;
    assert_eq!(made.len(), 1);
    assert_eq!(Some(host.trim()), made[0].metadata.name.as_deref());
    // It ran once, and only in that pod.
    assert_eq!(backend.read("begun").await.status, 404);

    // A new pod of that name is used again, and has its own agent.
    create(&world, theirs("theirs", BUSYBOX, json!({}))).await;
    name(&postgres, "P", "theirs").await;
    eventually("the new pod is used", async || {
        (backend.stdout("hostname").await == "theirs\n").then_some(())
    })
    .await;
}
