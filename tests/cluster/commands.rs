//! Commands: what they see, how they end, and that each runs once whatever
//! happens to the channel that carries it.

use futures::future::join_all;
use kube::ResourceExt;
use serde_json::json;

use crate::support::world::{agent_pid, eventually};
use crate::support::{World, hutch::resident};

#[tokio::test(flavor = "multi_thread")]
async fn a_result_has_the_shape_that_clients_read() {
    let world = World::new("result").await;
    let (_hutch, tenant) = world.with_tenant("r", &[]).await;
    let data = tenant
        .post("/exec", json!({"command": " echo hi; echo oops >&2 "}))
        .await
        .ok();
    assert_eq!(
        (&data["sandboxId"], &data["command"]),
        (&json!("r"), &json!("echo hi; echo oops >&2"))
    );
    let result = data["result"].as_object().unwrap();
    for (field, value) in [
        ("success", json!(true)),
        ("exitCode", json!(0)),
        ("stdout", json!("hi")),
        ("stderr", json!("oops")),
        ("output", json!("hi")),
        ("error", json!("oops")),
        ("command", json!("echo hi; echo oops >&2")),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    assert!(result["duration"].is_u64());
    let time = result["timestamp"].as_str().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    for absent in ["sessionId", "timedOut", "truncated"] {
        assert!(!result.contains_key(absent), "{absent}");
    }

    let answer = tenant.post("/exec", json!({"command": "exit 3"})).await;
    let text = "Command failed with exit code 3";
    assert_eq!(
        (answer.status, &answer.body["message"]),
        (200, &json!(text))
    );
    let data = &answer.body["data"];
    assert_eq!(
        (&data["error"], &data["exitCode"]),
        (&json!(text), &json!(3))
    );
    assert_eq!(
        (&data["result"]["success"], &data["result"]["exitCode"]),
        (&json!(false), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_byte_for_byte_with_what_its_request_says() {
    let world = World::new("command").await;
    let (_hutch, tenant) = world.with_tenant("c", &[]).await;
    for (command, stdout) in [
        ("python3 -c 'print(2+2)'", "4"),
        ("pwd", "/workspace"),
        ("printf 'a\\n\\n'", "a\n"),
        ("printf 'a\\0b'", "a\0b"),
        ("printf '\\377\\n'", "\u{fffd}"),
        ("cat", ""),
        (
            "cat <<'END'\n$HOME `x` \"y\" \\z\nEND",
            "$HOME `x` \"y\" \\z",
        ),
        ("echo $BASH_VERSION | cut -d. -f1", "5"),
        ("echo '用户'", "用户"),
        ("sleep 600 & echo back", "back"),
        ("setsid sleep 600 & echo back", "back"),
    ] {
        assert_eq!(tenant.stdout(command).await, stdout, "{command}");
    }
    let not_found = tenant.run("no-such-command-anywhere").await;
    assert_eq!(not_found["exitCode"], 127);
    assert!(
        not_found["stderr"]
            .as_str()
            .unwrap()
            .contains("no-such-command-anywhere")
    );
    assert_eq!(tenant.run("kill -KILL $$").await["exitCode"], 137);

    let env =
        json!({"command": "echo $A-$B; pwd", "env": {"A": "1 $(x)", "B": "用"}, "cwd": "/tmp"});
    for body in [
        env.clone(),
        json!({"command": env["command"], "options": {"env": env["env"], "cwd": "/tmp"}}),
    ] {
        assert_eq!(
            tenant.post("/exec", body).await.ok()["result"]["stdout"],
            "1 $(x)-用\n/tmp"
        );
    }
    assert_eq!(
        tenant.stdout("echo [$A]; pwd").await,
        "[]\n/workspace",
        "for that command alone"
    );
    let missing = tenant
        .post("/exec", json!({"command": "echo ran", "cwd": "/no/where"}))
        .await;
    let result = &missing.body["data"]["result"];
    assert_eq!(
        (missing.status, &result["exitCode"], &result["stdout"]),
        (200, &json!(1), &json!(""))
    );
    assert!(result["stderr"].as_str().unwrap().contains("/no/where"));

    let long = format!("x='{}'\necho ${{#x}}", "y".repeat(1 << 20));
    assert_eq!(tenant.stdout(&long).await, (1 << 20).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_past_its_timeout_is_killed_with_its_group() {
    let world = World::new("timeout").await;
    let (_hutch, tenant) = world.with_tenant("t", &[]).await;
    let command = "echo before; sleep 611 & sleep 612 & echo $$; sleep 613";
    let answer = tenant
        .post("/exec", json!({"command": command, "timeout": 700}))
        .await;
    assert_eq!(answer.status, 200);
    let result = &answer.body["data"]["result"];
    assert_eq!(
        (&result["exitCode"], &result["timedOut"]),
        (&json!(124), &json!(true))
    );
    assert!(
        result["stdout"].as_str().unwrap().starts_with("before\n"),
        "{result}"
    );
    assert_eq!(result["stderr"], "Command timed out after 700ms");
    let shell = result["stdout"].as_str().unwrap().lines().nth(1).unwrap();
    let left = tenant
        .run(&format!("ls -d /proc/{shell}; pgrep -x -f 'sleep 61[123]'"))
        .await;
    assert_eq!(left["stdout"], "", "the group is dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_megabytes_of_output_are_cut_and_flagged_in_bounded_memory() {
    let world = World::new("flood").await;
    let (hutch, tenant) = world.with_tenant("f", &["--max-output", "1Mi"]).await;
    tenant.create().await.ok();
    let agent = agent_pid(&world, "f").await;
    let (before, agent_before) = (hutch.resident(), resident(agent));
    let command = "head -c 200000000 /dev/zero | tr '\\0' x; head -c 200000000 /dev/zero | tr '\\0' y >&2; exit 5";
    let result = tenant.run(command).await;
    assert_eq!(
        (&result["exitCode"], &result["truncated"]),
        (&json!(5), &json!(true))
    );
    assert_eq!(result["stdout"].as_str().unwrap(), "x".repeat(1 << 20));
    assert_eq!(result["stderr"].as_str().unwrap(), "y".repeat(1 << 20));
    let grown = hutch.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "hutch grew by {grown} bytes");
    let grown = resident(agent).saturating_sub(agent_before);
    assert!(grown < 8 << 20, "the agent grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_command_makes_the_sandbox_that_it_needs() {
    let world = World::new("first").await;
    let (_hutch, tenant) = world.with_tenant("never made", &[]).await;
    assert_eq!(tenant.stdout("echo here").await, "here");
    world.sandbox_of("never made").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_many_clients_run_side_by_side_with_unmixed_output() {
    let world = World::new("parallel").await;
    let (_hutch, tenant) = world.with_tenant("p", &[]).await;
    tenant.create().await.ok();
    let run = async |n: usize| {
        let command = format!("for i in $(seq 200); do echo {n}-$i; done");
        (n, tenant.stdout(&command).await)
    };
    for (n, stdout) in join_all((0..100).map(run)).await {
        let wanted: Vec<_> = (1..=200).map(|i| format!("{n}-{i}")).collect();
        assert_eq!(stdout, wanted.join("\n"));
    }
}

/// The sandbox's root may do what root does in a container of its own.
#[tokio::test(flavor = "multi_thread")]
async fn root_inside_installs_packages_and_is_nobody_outside() {
    let world = World::new("root").await;
    let (_hutch, tenant) = world.with_tenant("root", &[]).await;
    assert_eq!(tenant.stdout("id -u").await, "0");
    tenant
        .stdout(
            "set -e; mkdir -p p/DEBIAN p/usr/local/bin p/var/lib/hello
             printf '#!/bin/sh\\necho hello\\n' > p/usr/local/bin/hello; chmod 755 p/usr/local/bin/hello
             printf 'Package: hello-hutch\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b.c>\\nDescription: x\\n' > p/DEBIAN/control
             printf '#!/bin/sh\\nset -e\\nadduser --system --no-create-home --group hello >/dev/null\\nchown -R hello:hello /var/lib/hello\\n' > p/DEBIAN/postinst
             chmod 755 p/DEBIAN/postinst; dpkg-deb -b p hello.deb; dpkg -i hello.deb
             su -s /bin/sh nobody -c id; chgrp nogroup p",
        )
        .await;
    assert_eq!(
        tenant.stdout("hello; stat -c %U /var/lib/hello").await,
        "hello\nhello"
    );
    assert_ne!(tenant.run("mount -t tmpfs none /mnt").await["exitCode"], 0);
    assert_ne!(
        tenant.run("cat /proc/1/environ").await["exitCode"],
        0,
        "the agent is not to be read"
    );
    assert_eq!(
        tenant.stdout("ls /var/run/secrets 2>/dev/null; true").await,
        "",
        "no token"
    );

    let agent = agent_pid(&world, "root").await;
    let status = std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap();
    for uid in uids.split_whitespace() {
        assert!(
            uid.parse::<u32>().unwrap() >= 65536,
            "the host sees uid {uid}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_inside_ends_the_agent() {
    let world = World::new("kill").await;
    let (_hutch, tenant) = world.with_tenant("k", &[]).await;
    tenant.create().await.ok();
    let before = world.sandbox_of("k").await;
    for attack in [
        "kill -9 -1",
        "kill -9 1",
        "kill -TERM 1",
        "kill -INT 1; kill -HUP 1; kill -QUIT 1",
        "rm -rf --no-preserve-root / 2>/dev/null",
    ] {
        // The bridge is a process in the sandbox, and may be among the dead.
        tenant
            .post("/exec", json!({"command": attack, "timeout": 20000}))
            .await;
        let argv = tenant.post("/exec", json!({"command": "exit 7"})).await;
        let result = &argv.body["data"]["result"]["exitCode"];
        // Without any file there is no shell either, which is told as such.
        let shell_gone = argv.body["data"]["error"]
            .as_str()
            .is_some_and(|text| text.contains("shell"));
        assert!(
            *result == 7 || (attack.starts_with("rm") && shell_gone),
            "{attack}: {:#}",
            argv.body
        );
    }
    let after = world.sandbox_of("k").await;
    assert_eq!(
        before.status.unwrap().pod_uid,
        after.status.unwrap().pod_uid,
        "the same pod"
    );
    let pod = world
        .pods()
        .get(&after.metadata.name.unwrap())
        .await
        .unwrap();
    let restarts = pod.status.unwrap().container_statuses.unwrap()[0].restart_count;
    assert_eq!(restarts, 0);
}

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
        "{} bytes came",
        result["stdout"].as_str().unwrap().len()
    );
    assert_eq!(tenant.stdout("cat log").await, "run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_on_when_its_facade_is_killed_and_is_not_run_again() {
    let world = World::new("facade").await;
    let (first, tenant) = world.with_tenant("fk", &[]).await;
    tenant.create().await.ok();
    let slow = tenant.clone();
    let request = tokio::spawn(async move {
        let command = "echo run >> log; touch started; while [ ! -e go ]; do sleep 0.05; done; echo end >> log";
        let body = json!({"command": command}).to_string();
        reqwest::Client::new()
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
    assert!(request.await.unwrap().is_err(), "its client sees the loss");
    let (_second, tenant) = world.with_tenant("fk", &[]).await;
    assert_eq!(tenant.stdout("cat log; touch go").await, "run");
    eventually("the command has ended", async || {
        (tenant.stdout("cat log").await == "run\nend").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_pod_that_goes_is_reported_as_lost() {
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
    // One that still reaches the pod that goes is reported as lost, too.
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
    eventually("the bridge is gone", async || {
        (bridges(agent) == 0).then_some(())
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

/// Bridges of the agent's sandbox: processes in its pid namespace.
fn bridges(agent: u32) -> usize {
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
