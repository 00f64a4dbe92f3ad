//! Two controllers: one leads, the other takes over, and a leader that does not know yet
//! that it was replaced writes nothing. Each replica impersonates its own user, so the API
//! server's audit log distinguishes them.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use tempfile::TempDir;

use crate::sandbox::manifest;
use crate::support::world::{eventually, http};
use crate::support::{Hutch, World, audit};

/// A controller that impersonates the user `name`.
async fn replica(world: &World, directory: &TempDir, name: &str) -> Hutch {
    let environment = world.environment.edited(directory.path(), |_, user| {
        user["as"] = json!(name);
        user["as-groups"] = json!(["system:masters"]);
    });
    let hutch = world.hutch_on(&environment, "controller", &[]);
    hutch.until_ready().await;
    hutch
}

async fn leads(hutch: &Hutch) {
    eventually("the replica leads", async || {
        (hutch.metric("hutch_leading").await > 0.0).then_some(())
    })
    .await;
}

async fn leads_not(hutch: &Hutch) {
    eventually("the replica does not lead", async || {
        (hutch.metric("hutch_leading").await == 0.0).then_some(())
    })
    .await;
}

/// The writes of `user`, without those to leases.
fn writes_of(world: &World, user: &str) -> Vec<audit::Write> {
    let writes = audit::writes(world.environment, &world.namespace);
    let theirs = |write: &audit::Write| write.user == user && write.resource != "leases";
    writes.into_iter().filter(theirs).collect()
}

fn make(world: &World, names: &[&str]) {
    for name in names {
        world.apply(&manifest(name, json!({}))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_leads_and_the_other_takes_over_when_it_is_killed() {
    let (world, directory) = (World::new("killed").await, tempfile::tempdir().unwrap());
    let history = world.history();
    let first = replica(&world, &directory, "first").await;
    leads(&first).await;
    let second = replica(&world, &directory, "second").await;
    make(&world, &["a"]);
    world.ready("a").await;
    assert!((second.metric("hutch_leading").await).abs() < 0.5);
    assert!(writes_of(&world, "second").is_empty());

    make(&world, &["b", "c", "d"]);
    first.kill();
    for name in ["b", "c", "d"] {
        world.ready(name).await;
    }
    leads(&second).await;
    let pod = world.pods().get("d").await.unwrap();
    let pods = history.check(&pod).await;
    assert_eq!(pods.len(), 4);
    assert!(pods.values().all(|count| *count == 1), "{pods:?}");
    assert_eq!(world.claim_names().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_the_lease_over() {
    let (world, directory) = (World::new("handover").await, tempfile::tempdir().unwrap());
    let first = replica(&world, &directory, "first").await;
    leads(&first).await;
    let second = replica(&world, &directory, "second").await;
    make(&world, &["a", "b"]);
    assert!(first.stop().await.success());
    let leases = world.api::<Lease>();
    let lease = leases.list(&ListParams::default()).await.unwrap().items;
    // The lease is released, or the other replica has it already. Neither has to wait for
    // the first to expire.
    let holder = lease[0].spec.as_ref().unwrap().holder_identity.clone();
    leads(&second).await;
    let taken = world
        .object::<Lease>(&lease[0].name_any(), |lease| {
            lease.spec.as_ref().unwrap().holder_identity.is_some()
        })
        .await;
    let now = taken.spec.unwrap().holder_identity;
    assert!(holder.is_none() || holder == now, "{holder:?} {now:?}");
    for name in ["a", "b"] {
        world.ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_that_wakes_after_it_was_replaced_writes_nothing() {
    let (world, directory) = (World::new("frozen").await, tempfile::tempdir().unwrap());
    let history = world.history();
    let first = replica(&world, &directory, "first").await;
    leads(&first).await;
    let second = replica(&world, &directory, "second").await;
    make(&world, &["a"]);
    world.ready("a").await;
    // The leader is frozen while it works, as far as a test can arrange that.
    make(&world, &["b", "c", "d"]);
    first.signal("STOP");
    make(&world, &["e"]);
    for name in ["b", "c", "d", "e"] {
        world.ready(name).await;
    }
    leads(&second).await;
    let before = writes_of(&world, "first").len();
    first.signal("CONT");
    leads_not(&first).await;
    make(&world, &["f"]);
    world.ready("f").await;
    // It has seen the work, and leaves it alone.
    eventually("the first is up to date again", async || {
        let ready = http().get(format!("{}/readyz", first.ops().await));
        ready
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    if world.environment.cluster.is_some() {
        let (old, new) = (writes_of(&world, "first"), writes_of(&world, "second"));
        assert_eq!(old.len(), before, "{:#?}", &old[before..]);
        let (last, next) = (old.last().unwrap(), new.first().unwrap());
        assert!(last.at < next.at, "{last:?} {next:?}");
        assert!(
            new.iter()
                .any(|w| w.name == "f" && w.resource == "sandboxes/status")
        );
    }
    let pod = world.pods().get("f").await.unwrap();
    let pods = history.check(&pod).await;
    assert_eq!(pods.len(), 6);
    assert!(pods.values().all(|count| *count == 1), "{pods:?}");
}
