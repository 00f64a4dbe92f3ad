//! Commands: their results, their environment, their end, and their rights.

use futures::future::join_all;
use serde_json::json;

use crate::support::world::agent_pid;
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
async fn a_command_runs_byte_for_byte_with_the_options_of_its_request() {
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
        "for that command only"
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

/// The sandbox's root may do what root does in an ordinary container.
#[tokio::test(flavor = "multi_thread")]
async fn root_in_the_sandbox_installs_packages_and_has_no_rights_on_the_node() {
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
        "the agent cannot be read"
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
        // The channel's process in the sandbox may be killed, too.
        tenant
            .post("/exec", json!({"command": attack, "timeout": 20000}))
            .await;
        let argv = tenant.post("/exec", json!({"command": "exit 7"})).await;
        let result = &argv.body["data"]["result"]["exitCode"];
        // Without any file there is no shell either, and the error says so.
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
