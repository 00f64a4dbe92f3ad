//! Attached pods that change or are hostile. Their data is only believed about themselves,
//! and they cost no other pod anything.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::project_attach::{BUSYBOX, create, hutch, known, name, runs, theirs};
use crate::project_resolution::conversation;
use crate::support::World;
use crate::support::environment::agent_binary;
use crate::support::postgres::Postgres;
use crate::support::world::eventually;

/// A `sh` that the container puts first into its PATH.
fn with_shell(pod: &str, script: &str) -> Value {
    let code =
        format!("mkdir /evil; printf '%s' \"$SH\" > /evil/sh; chmod 755 /evil/sh; {FOREVER}");
    let container = json!({
        "command": ["/bin/sh", "-c", code],
        "env": [{"name": "SH", "value": script}, {"name": "PATH", "value": "/evil:/bin:/usr/bin"}],
    });
    theirs(pod, BUSYBOX, container)
}

const FOREVER: &str = "exec /bin/sleep 100000";
/// Records each use, says that there is no agent, and floods the process that would bring
/// one.
const FLOOD: &str = "#!/bin/sh\necho $# >> /asked\n[ $# -gt 4 ] || exit 69\nexec cat /dev/zero\n";
/// Hutch must not accept so much output that it does not need.
const MAX_GROWTH_BYTES: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_floods_costs_no_memory_and_is_probed_once_for_all_waiting_requests() {
    let (world, postgres) = (World::new("flood").await, Postgres::start().await);
    postgres.project("P").await;
    name(&postgres, "P", "flood").await;
    create(&world, with_shell("flood", FLOOD)).await;
    runs(&world, "flood").await;
    let (hutch, backend) = hutch(&world, &postgres, &agent_binary(), "").await;
    known(&backend, "flood").await;
    let mut all = Vec::new();
    for i in 0..6 {
        let id = format!("c-{i}");
        conversation(&postgres, &id, Some("P")).await;
        all.push(backend.about(&id));
    }
    let before = hutch.resident();
    let asked = all
        .iter()
        .map(|backend| backend.call("/execute", json!({"command": "true"})));
    for reply in join_all(asked).await {
        reply.fails(503);
    }
    let after = hutch.resident();
    assert!(after < before + MAX_GROWTH_BYTES, "{before} became {after}");
    let output = ["exec", "flood", "--", "/bin/cat", "/asked"];
    assert_eq!(world.kubectl(&output, "").unwrap(), "4\n6\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_only_has_the_name_of_the_labelled_one_gets_no_agent() {
    let (world, postgres) = (World::new("renewed").await, Postgres::start().await);
    postgres.project("P").await;
    name(&postgres, "P", "mortal").await;
    create(&world, theirs("mortal", BUSYBOX, json!({}))).await;
    runs(&world, "mortal").await;
    let (hutch, backend) = hutch(&world, &postgres, &agent_binary(), "s-P").await;
    known(&backend, "mortal").await;
    backend.stdout("true").await;
    let long = json!({"command": "touch /tmp/begun; sleep 1000"});
    let running = backend.call("/execute", long);
    let replaced = async {
        eventually("the command runs", async || {
            (backend.run("test -e /tmp/begun").await["exit_code"] == 0).then_some(())
        })
        .await;
        let now = DeleteParams::default().grace_period(0);
        world.pods().delete("mortal", &now).await.unwrap();
        world.gone::<Pod>("mortal").await;
        let mut other = theirs("mortal", BUSYBOX, json!({}));
        other["metadata"]["labels"] = json!({"app": "another"});
        create(&world, other).await;
        runs(&world, "mortal").await;
    };
    let (reply, ()) = tokio::join!(running, replaced);
    assert_ne!(reply.status, 200, "{reply:#?}");
    // The next command runs elsewhere, and nothing of Hutch has reached that pod.
    assert_ne!(backend.stdout("hostname").await, "mortal\n");
    let left = "ls -d /.hutch /run/.hutch /var/tmp/.hutch /tmp/.hutch /dev/shm/.hutch 2>/dev/null";
    let left = ["exec", "mortal", "--", "sh", "-c", &format!("{left}; true")];
    assert_eq!(world.kubectl(&left, "").unwrap(), "");
    let log = hutch.log();
    assert_eq!(log.matches("brought the agent").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_working_directory_and_a_missing_shell_are_different_errors() {
    let (world, postgres) = (World::new("no-folder").await, Postgres::start().await);
    postgres.project("P").await;
    name(&postgres, "P", "lost").await;
    let code = format!("rmdir /srv/app; cd /; {FOREVER}");
    let container = json!({"command": ["sh", "-c", code]});
    create(&world, theirs("lost", BUSYBOX, container)).await;
    runs(&world, "lost").await;
    let (_hutch, backend) = hutch(&world, &postgres, &agent_binary(), "s-P").await;
    known(&backend, "lost").await;
    let reported = backend.call("/execute", json!({"command": "true"})).await;
    let reported = reported.fails(503);
    assert!(reported.contains("working directory is gone"), "{reported}");
}
