//! Commands whose channel, facade or pod ends: each command runs once.

use kube::ResourceExt;
use serde_json::json;

use crate::support::World;
use crate::support::world::{agent_pid, eventually, http};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_outlives_the_loss_of_its_channel_and_runs_once() {
    let world = World::new("channel").await;
    let (_hutch, tenant) = world.with_tenant("ch", &[]).await;
    tenant.create().await.ok();
    let command = "echo run >> log; for i in $(seq 3); do
        seq 1 60000; pkill -KILL -f 'hutch-agent connec[t]'; done; echo end";
    let result = tenant.run(command).await;
    assert_eq!(result["exitCode"], 0, "{result:#}");
    let once: Vec<_> = (1..=60000).map(|i| i.to_string()).collect();
    let thrice = [
        once.join("\n"),
        once.join("\n"),
        once.join("\n"),
        "end".to_owned(),
    ]
    .join("\n");
    assert!(
        result["stdout"] == thrice,
        "{} bytes",
        result["stdout"].as_str().unwrap().len()
    );
    assert_eq!(tenant.stdout("cat log").await, "run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_outlives_its_facade_and_runs_once() {
    let world = World::new("facade").await;
    let (first, tenant) = world.with_tenant("fk", &[]).await;
    tenant.create().await.ok();
    let slow = tenant.clone();
    let request = tokio::spawn(async move {
        let command = "echo run >> log; touch started; while [ ! -e go ]; do sleep 0.05; done; echo end >> log";
        let body = json!({"command": command}).to_string();
        http()
            .post(slow.address("/exec"))
            .header("x-sandbox-id", "fk")
            .body(body)
            .send()
            .await
    });
    eventually("the command has started", async || {
        (tenant.run("ls started").await["exitCode"] == 0).then_some(())
    })
    .await;
    first.kill();
    assert!(request.await.unwrap().is_err(), "the client sees the loss");
    let (_second, tenant) = world.with_tenant("fk", &[]).await;
    assert_eq!(tenant.stdout("cat log; touch go").await, "run");
    eventually("the command has ended", async || {
        (tenant.stdout("cat log").await == "run\nend").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_deleted_pod_is_reported_as_lost() {
    let world = World::new("lost").await;
    let (_hutch, tenant) = world.with_tenant("l", &[]).await;
    tenant.create().await.ok();
    let running = tenant.clone();
    let answer = tokio::spawn(async move {
        running
            .post(
                "/exec",
                json!({"command": "echo run >> log; touch started; sleep 600"}),
            )
            .await
    });
    eventually("the command has started", async || {
        (tenant.run("ls started").await["exitCode"] == 0).then_some(())
    })
    .await;
    let name = world.sandbox_of("l").await.name_any();
    world
        .pods()
        .delete(&name, &Default::default())
        .await
        .unwrap();
    let answer = answer.await.unwrap();
    let lost = answer.status == 500 && answer.body["data"]["type"] == "execution_error";
    let ended = answer.body["data"]["result"]["exitCode"]
        .as_i64()
        .is_some_and(|code| code > 128);
    assert!(lost || ended, "never a success: {:#}", answer.body);
    // A command that still reaches the terminating pod is reported as lost, too.
    let log = eventually("the new pod answers", async || {
        let answer = tenant.post("/exec", json!({"command": "cat log"})).await;
        (answer.status == 200).then(|| answer.body["data"]["result"]["stdout"].clone())
    })
    .await;
    assert_eq!(log, "run", "same workspace, run once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_channel_is_closed_and_opened_again_on_demand() {
    let world = World::new("idle").await;
    let (_hutch, tenant) = world
        .with_tenant("i", &["--channel-idle", "1s", "--max-channels", "2"])
        .await;
    tenant.create().await.ok();
    let agent = agent_pid(&world, "i").await;
    eventually("the channel is closed", async || {
        (channels(agent) == 0).then_some(())
    })
    .await;
    assert_eq!(tenant.stdout("echo again").await, "again");
    for id in ["j", "k", "i", "j", "k"] {
        assert_eq!(tenant.about(id).stdout("echo again").await, "again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_progress_are_answered_before_the_process_stops() {
    let world = World::new("drain").await;
    let (hutch, tenant) = world.with_tenant("d", &[]).await;
    tenant.create().await.ok();
    let waiting = tenant.clone();
    let answer = tokio::spawn(async move {
        waiting
            .run("touch started; while [ ! -e go ]; do sleep 0.05; done; echo done")
            .await
    });
    eventually("the command has started", async || {
        (tenant.run("ls started").await["exitCode"] == 0).then_some(())
    })
    .await;
    hutch.signal("TERM");
    eventually("the facade stops", async || {
        hutch.log().contains("SIGTERM: stopping").then_some(())
    })
    .await;
    let (second, again) = world.with_tenant("d", &[]).await;
    again.run("touch go").await;
    assert_eq!(answer.await.unwrap()["stdout"], "done");
    assert!(hutch.ends().await.success());
    drop(second);
}

/// The number of open channels of a sandbox: each is a process in its pid namespace.
fn channels(agent: u32) -> usize {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = namespace(&agent.to_string());
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| namespace(pid) == ours && ours.is_some())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("hutch-agent\0connect"))
        })
        .count()
}
