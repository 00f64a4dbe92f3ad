//! The life of a sandbox after its first start: lost pods, sleep and wake, its time to
//! live, and changes of its spec.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::sandbox::manifest;
use crate::support::steps::condition;
use crate::support::world::{agent_pid, eventually};
use crate::support::{World, audit};
use hutch_api::{Phase, Sandbox};
use hutch_core::names;

fn phase(sandbox: &Sandbox) -> Phase {
    sandbox.status.as_ref().map(|s| s.phase).unwrap_or_default()
}

fn pod_uid(sandbox: &Sandbox) -> String {
    let status = sandbox.status.as_ref().unwrap();
    status.pod_uid.clone().unwrap()
}

/// The number of pods that were created in this namespace.
fn created_pods(world: &World) -> usize {
    let writes = audit::writes(world.environment, &world.namespace);
    let pods = writes
        .iter()
        .filter(|w| w.verb == "create" && w.resource == "pods");
    pods.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pod_is_replaced_by_one_with_the_same_data() {
    let world = World::new("lost").await;
    let history = world.history();
    let (_hutch, tenant) = world.with_tenant("l", &[]).await;
    let name = names::sandbox("l");
    tenant.stdout("echo data > file; sync").await;
    let claims = world.claim_names().await;
    let uid = world.ready(&name).await.uid().unwrap();
    let mut last = world.pods().get(&name).await.unwrap();
    // The failed pod comes first: a repeated event keeps the text of its first time.
    for fault in ["failed", "deleted", "evicted", "deleted at once"] {
        let before = pod_uid(&world.ready(&name).await);
        let pods = world.pods();
        match fault {
            "deleted" => drop(pods.delete(&name, &DeleteParams::default()).await.unwrap()),
            "evicted" => drop(pods.evict(&name, &EvictParams::default()).await.unwrap()),
            "deleted at once" => {
                let at_once = DeleteParams::default().grace_period(0);
                drop(pods.delete(&name, &at_once).await.unwrap());
            }
            // The status that the kubelet writes when it evicts a pod for lack of a
            // resource.
            _ => {
                let reported = json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}});
                let params = PatchParams::default();
                let patch = Patch::Merge(&reported);
                pods.patch_status(&name, &params, &patch).await.unwrap();
            }
        }
        last = world.next_pod(&name, &before).await;
        assert_eq!(tenant.stdout("cat file").await, "data", "{fault}");
        assert_eq!(world.claim_names().await, claims, "{fault}");
    }
    let pods = history.check(&last).await;
    assert_eq!(pods[&uid], 5, "one pod for each loss");
    let events = world.events().await;
    let reported =
        |(reason, text): &(String, String)| reason == "PodLost" && text.contains("low on resource");
    assert!(events.iter().any(reported), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_is_started_again_in_its_pod() {
    let world = World::new("agent-killed").await;
    world.environment.require_test_cluster();
    let (_hutch, tenant) = world.with_tenant("k", &[]).await;
    let name = names::sandbox("k");
    tenant.stdout("echo data > file").await;
    world.ready(&name).await;
    let pod = world.pods().get(&name).await.unwrap();
    let agent = agent_pid(&world, "k").await.to_string();
    let kill = std::process::Command::new("kill")
        .args(["-KILL", &agent])
        .status();
    assert!(kill.unwrap().success());
    let restarted = |sandbox: &Sandbox| {
        phase(sandbox) == Phase::Ready
            && condition(sandbox, "AgentReady").is_some_and(|c| c.message.contains("restart 1"))
    };
    let sandbox = world.sandbox(&name, restarted).await;
    assert_eq!(Some(pod_uid(&sandbox)), pod.uid(), "the same pod");
    assert_eq!(tenant.stdout("cat file").await, "data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_sandbox_has_no_pod_and_keeps_its_workspace() {
    let world = World::new("suspended").await;
    let (_hutch, tenant) = world.with_tenant("s", &[]).await;
    let name = names::sandbox("s");
    tenant.stdout("echo data > file").await;
    let claims = world.claim_names().await;
    for _ in 0..2 {
        world.suspend(&name).await;
        world.gone::<Pod>(&name).await;
        let ended = |sandbox: &Sandbox| {
            phase(sandbox) == Phase::Suspended
                && sandbox
                    .status
                    .as_ref()
                    .is_some_and(|s| s.pod_name.is_none())
        };
        let sandbox = world.sandbox(&name, ended).await;
        let ready = condition(&sandbox, "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "Suspended")
        );
        assert_eq!(
            condition(&sandbox, "WorkspaceReady").unwrap().status,
            "True"
        );
        let refused = tenant.post("/exec", json!({"command": "true"})).await;
        let text = refused.body["data"]["error"].as_str().unwrap().to_owned();
        assert!(text.contains("spec.suspended"), "{refused:?}");
        world.resume(&name).await;
        world.ready(&name).await;
        assert_eq!(tenant.stdout("cat file").await, "data");
        assert_eq!(world.claim_names().await, claims);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_sandbox_sleeps_and_concurrent_requests_share_one_wake() {
    let world = World::new("idle").await;
    let history = world.history();
    let (_hutch, tenant) = world.with_tenant("i", &[]).await;
    let name = names::sandbox("i");
    let uid = {
        let data = json!({"options": {"sleepAfter": "2s"}});
        tenant.post("/lifecycle", data).await.ok();
        world.sandbox_of("i").await.uid().unwrap()
    };
    tenant.stdout("echo data > file").await;
    for _ in 0..2 {
        world
            .sandbox(&name, |sandbox| phase(sandbox) == Phase::Suspended)
            .await;
        world.gone::<Pod>(&name).await;
        let asleep = world
            .sandbox(&name, |s| s.status.as_ref().unwrap().pod_name.is_none())
            .await;
        assert!(asleep.status.as_ref().unwrap().slept_at.is_some());
        assert_eq!(condition(&asleep, "Ready").unwrap().reason, "Asleep");
        let answers = join_all((0..10).map(|_| tenant.stdout("cat file"))).await;
        assert!(answers.iter().all(|answer| answer == "data"));
    }
    let awake = world.ready(&name).await;
    assert_eq!(awake.status.as_ref().unwrap().slept_at, None);
    let pod = world.pods().get(&name).await.unwrap();
    assert_eq!(history.check(&pod).await[&uid], 3);
    assert_eq!(created_pods(&world), 3, "one create for each wake");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_with_a_command_or_keep_alive_does_not_fall_asleep() {
    let world = World::new("awake").await;
    let (_hutch, tenant) = world.with_tenant("short", &[]).await;
    let sleep_after =
        |time: &str, keep: bool| json!({"options": {"sleepAfter": time, "keepAlive": keep}});
    let kept = tenant.about("kept");
    kept.post("/lifecycle", sleep_after("1s", true)).await.ok();
    let kept_pod = pod_uid(&world.ready(&names::sandbox("kept")).await);
    tenant
        .post("/lifecycle", sleep_after("2s", false))
        .await
        .ok();
    let name = names::sandbox("short");
    // The command runs much longer than the idle timeout.
    assert_eq!(tenant.stdout("sleep 7; echo done").await, "done");
    // A background process ends before the sandbox falls asleep.
    tenant
        .stdout("(sleep 5; echo done > background) & true")
        .await;
    world
        .sandbox(&name, |sandbox| phase(sandbox) == Phase::Suspended)
        .await;
    assert_eq!(tenant.stdout("cat background").await, "done");

    let kept = world.ready(&names::sandbox("kept")).await;
    assert_eq!(pod_uid(&kept), kept_pod, "never slept");
    // `keepAlive` wakes a sandbox that is asleep, without a request.
    world
        .sandbox(&name, |sandbox| phase(sandbox) == Phase::Suspended)
        .await;
    let keep = json!({"spec": {"lifecycle": {"keepAlive": true}}});
    world.patch(&name, keep).await;
    world.ready(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_ends_with_its_time_to_live_in_every_state() {
    let world = World::new("ttl").await;
    let _hutch = world.hutch("controller", &[]).await;
    let lifecycle = json!({"ttl": "3s"});
    let suspended = json!({"lifecycle": lifecycle, "suspended": true});
    world.apply(&manifest("suspended", suspended)).unwrap();
    let running = json!({"lifecycle": {"ttl": "3s", "keepAlive": true}});
    world.apply(&manifest("running", running)).unwrap();
    world.apply(&manifest("later", json!({}))).unwrap();
    for name in ["suspended", "running"] {
        world.gone::<Sandbox>(name).await;
        world.gone::<Pod>(name).await;
    }
    // A time to live that is set later also counts from the creation.
    world.ready("later").await;
    let ttl = json!({"spec": {"lifecycle": {"ttl": "1s"}}});
    world.patch("later", ttl).await;
    world.gone::<Sandbox>("later").await;
    eventually("no claim is left", async || {
        world.claim_names().await.is_empty().then_some(())
    })
    .await;
    let events = world.events().await;
    let expired = events.iter().filter(|(reason, _)| reason == "Expired");
    assert_eq!(expired.count(), 3, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_change_of_the_spec_needs_no_new_pod() {
    let world = World::new("live").await;
    let _hutch = world.hutch("controller", &[]).await;
    world.apply(&manifest("box", json!({}))).unwrap();
    let before = pod_uid(&world.ready("box").await);
    for patch in [
        json!({"lifecycle": {"idleTimeout": "1h", "ttl": "2h", "keepAlive": true}}),
        json!({"workspace": {"reclaimPolicy": "Retain"}}),
        json!({"project": {"id": "p/1"}}),
        json!({"project": {"id": "p/2"}}),
    ] {
        world.patch("box", json!({"spec": patch})).await;
        let sandbox = world.ready("box").await;
        assert_eq!(pod_uid(&sandbox), before, "{patch}");
        assert!(condition(&sandbox, "RestartPending").is_none(), "{patch}");
    }
    world
        .object::<Pod>("box", |pod| {
            pod.annotations().get("hutch.dev/project-id") == Some(&"p/2".to_owned())
        })
        .await;
    let none = json!({"spec": {"project": null, "workspace": {"reclaimPolicy": "Delete"}}});
    world.patch("box", none).await;
    let pod = world
        .object::<Pod>("box", |pod| {
            !pod.annotations().contains_key("hutch.dev/project-id")
        })
        .await;
    assert_eq!(pod.uid(), Some(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_needs_a_new_pod_waits_for_one() {
    let world = World::new("pending").await;
    let _hutch = world.hutch("controller", &[]).await;
    world.apply(&manifest("box", json!({}))).unwrap();
    let first = pod_uid(&world.ready("box").await);
    let restart = |value: &str| json!({"metadata": {"annotations": {"hutch.dev/restart": value}}});
    let pending = |sandbox: &Sandbox| -> Option<String> {
        Some(condition(sandbox, "RestartPending")?.message.clone())
    };
    let changes =
        json!({"env": [{"name": "A", "value": "1"}], "resources": {"limits": {"memory": "200Mi"}}});
    world.patch("box", json!({"spec": changes})).await;
    let reported = world
        .condition("box", "RestartPending", "SpecChanged")
        .await;
    assert_eq!(reported.status, "True");
    for word in ["env", "resources", "hutch.dev/restart"] {
        assert!(reported.message.contains(word), "{}", reported.message);
    }
    assert!(!reported.message.contains("image"), "{}", reported.message);
    let sandbox = world.ready("box").await;
    assert_eq!(pod_uid(&sandbox), first, "it goes on with the old one");

    // The restart happens at once if it is requested, and only once.
    world.patch("box", restart("1")).await;
    let sandbox = world.ready_with("box", |uid| uid != first).await;
    assert_eq!(pending(&sandbox), None);
    let second = pod_uid(&sandbox);
    let pod = world.pods().get("box").await.unwrap();
    assert_eq!(memory_limit(&pod), "200Mi");
    // A requested restart without a change is a restart, too.
    world.patch("box", restart("2")).await;
    let third = pod_uid(&world.ready_with("box", |uid| uid != second).await);

    // Without a request, the change takes effect at the next start.
    world.patch("box", restart_never()).await;
    let changes = json!({"spec": {"resources": {"limits": {"memory": "300Mi"}}}});
    world.patch("box", changes).await;
    world
        .condition("box", "RestartPending", "SpecChanged")
        .await;
    world
        .pods()
        .delete("box", &DeleteParams::default())
        .await
        .unwrap();
    let sandbox = world.ready_with("box", |uid| uid != third).await;
    assert_eq!(pending(&sandbox), None);
    let pod = world.pods().get("box").await.unwrap();
    assert_eq!(memory_limit(&pod), "300Mi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_never_ran_follows_the_spec_at_once() {
    let world = World::new("mended").await;
    let _hutch = world.hutch("controller", &[]).await;
    let wrong = json!({"image": "registry.invalid/x:1"});
    world.apply(&manifest("image", wrong)).unwrap();
    let nowhere = json!({"securityProfile": "Restricted", "nodeSelector": {"no": "such"}});
    world.apply(&manifest("node", nowhere)).unwrap();
    world.condition("image", "Ready", "ImagePullFailed").await;
    world
        .object::<Pod>("node", |pod| {
            pod.status.as_ref().is_some_and(|s| s.conditions.is_some())
        })
        .await;
    world.apply(&manifest("image", json!({}))).unwrap();
    world
        .patch("node", json!({"spec": {"nodeSelector": null}}))
        .await;
    for name in ["image", "node"] {
        let sandbox = world.ready(name).await;
        assert!(condition(&sandbox, "RestartPending").is_none());
    }
}

fn restart_never() -> Value {
    json!({"metadata": {"annotations": {"hutch.dev/restart": null}}})
}

fn memory_limit(pod: &Pod) -> &str {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let resources = container.resources.as_ref().unwrap();
    &resources.limits.as_ref().unwrap()["memory"].0
}
