//! Commands of sessions: the state that one leaves to the next, and their order.

use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use hutch_wire::limits::MAX_WAITING;
use serde_json::json;

use crate::support::tenant::Answer;
use crate::support::{Tenant, World};

/// True if the answer says that the shell was replaced.
fn reset(answer: &Answer) -> bool {
    let data = &answer.body["data"];
    [&data["sessionReset"], &data["result"]["sessionReset"]].contains(&&json!(true))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_named_in_each_way_and_created_at_once() {
    let world = World::new("session-exec").await;
    let (_hutch, tenant) = world.with_tenant("x", &["--max-output", "64Ki"]).await;
    let command = " pwd; echo oops >&2 ";
    for (path, mut body) in [
        ("/session/exec", json!({"sessionId": "x y"})),
        ("/session/exec", json!({"session_id": "x y"})),
        ("/session/exec?session_id=x%20y", json!({})),
    ] {
        body["command"] = command.into();
        let data = tenant.post(path, body).await.ok();
        assert_eq!(
            (&data["sandboxId"], &data["sessionId"], &data["command"]),
            (&json!("x"), &json!("x y"), &json!("pwd; echo oops >&2"))
        );
        let result = data["result"].as_object().unwrap();
        for (field, value) in [
            ("success", json!(true)),
            ("exitCode", json!(0)),
            ("stdout", json!("/workspace")),
            ("output", json!("/workspace")),
            ("stderr", json!("oops")),
            ("error", json!("oops")),
            ("command", json!("pwd; echo oops >&2")),
            ("sessionId", json!("x y")),
        ] {
            assert_eq!(result[field], value, "{field}");
        }
        assert!(result["duration"].is_u64());
        let time = result["timestamp"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    assert_eq!(tenant.sessions().await, ["default", "x y"]);

    failures_are_told(&tenant).await;
    for options in [
        json!({"timeout": 0}),
        json!({"timeout": "soon"}),
        json!({"env": {"A-B": "x"}}),
        json!({"env": {"A": 1}}),
        json!({"cwd": 7}),
    ] {
        let body = json!({"sessionId": "bad", "command": "true", "options": options});
        tenant.post("/session/exec", body).await.refused(400);
    }
    assert_eq!(tenant.sessions().await, ["default", "x y"], "none was made");
}

/// Failures are those of commands without a session.
async fn failures_are_told(tenant: &Tenant) {
    let answer = tenant.exec_in("x y", "printf 'a\\n\\n'; exit 3").await;
    let text = "Command failed with exit code 3";
    let data = &answer.body["data"];
    assert_eq!(
        (answer.status, &answer.body["message"]),
        (200, &json!(text))
    );
    assert_eq!(
        (&data["error"], &data["exitCode"]),
        (&json!(text), &json!(3))
    );
    let result = &data["result"];
    assert_eq!(
        (&result["exitCode"], &result["stdout"]),
        (&json!(3), &json!("a\n"))
    );
    assert_eq!(
        tenant.run_in("x y", "no-such-command").await["exitCode"],
        127
    );
    assert_eq!(tenant.stdout_in("x y", "cat").await, "", "stdin is empty");
    let flood = "flood=1; head -c 100000 /dev/zero | tr '\\0' x; echo $flood >&2";
    let result = tenant.run_in("x y", flood).await;
    assert_eq!(result["truncated"], true);
    assert_eq!(result["stdout"].as_str().unwrap(), "x".repeat(64 << 10));
    let after = tenant.stdout_in("x y", "echo $flood").await;
    assert_eq!((&result["stderr"], &*after), (&json!("1"), "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_that_a_command_leaves_reaches_the_next_one_and_no_other_session() {
    let world = World::new("state").await;
    let (_hutch, tenant) = world.with_tenant("s", &[]).await;
    for command in [
        "mkdir -p 'a dir' && cd 'a dir' && touch file",
        "export E='e  $x'",
        "plain='p'",
        "f() { echo \"f of $1\"; }",
        "array=(a 'b c' $'d\\ne')",
        "declare -A map=([k]='v w')",
        "alias hello='echo hi'",
    ] {
        tenant.stdout_in("one", command).await;
    }
    let look = "pwd; printenv E; echo $plain; f 1; echo ${#array[@]} \"${array[1]}\" ${map[k]}";
    let seen = "/workspace/a dir\ne  $x\np\nf of 1\n3 b c v w";
    assert_eq!(tenant.stdout_in("one", look).await, seen);
    assert_eq!(tenant.stdout_in("one", "hello").await, "hi");

    let look = "pwd; echo \"[$E$plain${array[*]}${map[*]}]\"; type -t f hello; ls 'a dir'";
    let nothing = "/workspace\n[]\nfile";
    for other in ["two", "default", "One"] {
        let stdout = tenant.stdout_in(other, look).await;
        assert_eq!(stdout, nothing, "{other} shares the files alone");
    }
    assert_eq!(tenant.stdout(look).await, nothing, "a plain command");
    let undo = "unset plain array; unset -f f; cd ..";
    tenant.stdout_in("one", undo).await;
    let look = "pwd; echo \"[$plain${array[*]}]$E\"; type -t f || true";
    let seen = "/workspace\n[]e  $x";
    assert_eq!(tenant.stdout_in("one", look).await, seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_and_environment_of_a_request_apply_to_its_command_only() {
    let world = World::new("alone").await;
    let (_hutch, tenant) = world.with_tenant("a", &[]).await;
    tenant
        .stdout_in("s", "cd /usr; export A=own; B=plain")
        .await;
    let command = "pwd; printenv A C; echo $B; export D=left";
    let options = json!({"cwd": "/tmp", "env": {"A": "1 $(x)", "C": "用"}});
    let mut at_top = options.clone();
    at_top["command"] = command.into();
    for mut body in [at_top, json!({"command": command, "options": options})] {
        body["sessionId"] = "s".into();
        let data = tenant.post("/session/exec", body).await.ok();
        assert_eq!(data["result"]["stdout"], "/tmp\n1 $(x)\n用\nplain");
        let after = tenant.stdout_in("s", "pwd; echo $A-$B-$C-$D").await;
        assert_eq!(after, "/usr\nown-plain--left");
    }
    let body = json!({"sessionId": "s", "command": "touch /tmp/ran", "cwd": "/no/where"});
    let answer = tenant.post("/session/exec", body).await;
    let result = &answer.body["data"]["result"];
    assert_eq!((answer.status, &result["exitCode"]), (200, &json!(1)));
    let stderr = result["stderr"].as_str().unwrap();
    assert!(stderr.contains("/no/where"), "{stderr}");
    assert!(!tenant.exists("/tmp/ran").await);
    assert_eq!(tenant.stdout_in("s", "pwd; echo $A").await, "/usr\nown");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_one_session_run_one_after_another_in_order_of_arrival() {
    let world = World::new("order").await;
    let (_hutch, tenant) = world.with_tenant("o", &[]).await;
    tenant.create().await.ok();
    let together = async |n: usize| {
        let command = format!(
            "mkdir lock || exit; for i in $(seq 100); do echo {n}-$i; done; \
             all=\"$all {n}\"; rmdir lock"
        );
        (n, tenant.stdout_in("s", &command).await)
    };
    for (n, stdout) in join_all((0..8).map(together)).await {
        let wanted: Vec<_> = (1..=100).map(|i| format!("{n}-{i}")).collect();
        assert_eq!(stdout, wanted.join("\n"), "alone, and unmixed");
    }
    let all = tenant.stdout_in("s", "echo $all").await;
    let mut all: Vec<_> = all.split(' ').collect();
    all.sort_unstable();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7"]);

    let wait = "until [ -e go ]; do sleep 0.02; done";
    let mut answers = vec![tenant.begin_in("s", "/workspace/begun", wait).await];
    for n in 0..5 {
        let tenant = tenant.clone();
        answers.push(tokio::spawn(async move {
            let command = format!("echo {n} >> order");
            tenant.exec_in("s", &command).await
        }));
        // Nothing shows a client that its command has arrived, so this sleeps. The tests of
        // the agent check the order without a sleep.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    tenant.write("/workspace/go", "").await.ok();
    for answer in join_all(answers).await {
        answer.unwrap().ok();
    }
    assert_eq!(tenant.text("/workspace/order").await, "0\n1\n2\n3\n4\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_sessions_run_side_by_side() {
    let world = World::new("beside").await;
    let (_hutch, tenant) = world.with_tenant("b", &[]).await;
    tenant.create().await.ok();
    // No command ends before all have begun.
    let barrier = "until [ $(ls here.* | wc -l) = 8 ]; do sleep 0.02; done";
    let meet = async |n: usize| {
        let command = format!("touch here.{n}; {barrier}; echo {n}");
        tenant.stdout_in(&format!("s{n}"), &command).await
    };
    let met = join_all((0..8).map(meet)).await;
    assert_eq!(met, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_full_queue_refuses_more_and_loses_nothing() {
    let world = World::new("bound").await;
    let (_hutch, tenant) = world.with_tenant("b", &[]).await;
    tenant.create().await.ok();
    let wait = "until [ -e go ]; do sleep 0.02; done";
    let first = tenant.begin_in("s", "/workspace/begun", wait).await;
    let more = 16;
    let mut answers: FuturesUnordered<_> = (0..MAX_WAITING + more)
        .map(|_| tenant.exec_in("s", "echo ran >> log"))
        .collect();
    for _ in 0..more {
        let refused = answers.next().await.unwrap();
        refused.refused(429);
    }
    let other = tenant.stdout_in("other", "echo undisturbed").await;
    assert_eq!(other, "undisturbed");
    tenant.write("/workspace/go", "").await.ok();
    first.await.unwrap().ok();
    while let Some(answer) = answers.next().await {
        answer.ok();
    }
    let ran = tenant.text("/workspace/log").await;
    assert_eq!(ran, "ran\n".repeat(MAX_WAITING));
    assert_eq!(tenant.stdout_in("s", "echo again").await, "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_past_its_timeout_is_killed_and_its_session_is_usable_at_once() {
    let world = World::new("late").await;
    let (_hutch, tenant) = world.with_tenant("t", &[]).await;
    tenant.stdout_in("s", "cd /usr; export A=kept").await;
    let command = "trap '' TERM; export A=lost; cd /; echo out; echo err >&2; \
                   sleep 614 & sleep 615; echo not reached";
    for timeout in [
        json!({"timeout": 700}),
        json!({"options": {"timeout": 700}}),
    ] {
        let mut body = timeout;
        body["sessionId"] = "s".into();
        body["command"] = command.into();
        let answer = tenant.post("/session/exec", body).await;
        let text = "Command failed with exit code 124";
        assert_eq!(
            (answer.status, &answer.body["message"]),
            (200, &json!(text))
        );
        let result = &answer.body["data"]["result"];
        for (field, value) in [
            ("exitCode", json!(124)),
            ("success", json!(false)),
            ("timedOut", json!(true)),
            ("stdout", json!("out")),
            ("stderr", json!("err\nCommand timed out after 700ms")),
            ("error", json!("err\nCommand timed out after 700ms")),
        ] {
            assert_eq!(result[field], value, "{field}");
        }
        assert!(reset(&answer), "{answer:#?}");
        let next = tenant.stdout_in("s", "pwd; printenv A");
        let next = tokio::time::timeout(Duration::from_secs(2), next).await;
        assert_eq!(next.expect("usable at once"), "/usr\nkept");
        let left = tenant.run("pgrep -x -f 'sleep 61[45]'").await;
        assert_eq!(left["stdout"], "", "the whole group is dead");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_shell_is_reported_and_keeps_the_previous_state() {
    let world = World::new("reset").await;
    let (_hutch, tenant) = world.with_tenant("r", &[]).await;
    tenant.stdout_in("s", "cd /usr; export A=kept").await;
    for (command, code, replaced) in [
        ("export B=1", 0, false),
        ("exit 3", 3, false),
        ("exec true", 0, true),
        ("export B=2; kill -KILL $$", 137, true),
        ("set -e; false", 1, false),
        ("set +e", 0, false),
        ("true", 0, false),
    ] {
        let answer = tenant.exec_in("s", command).await;
        assert_eq!(reset(&answer), replaced, "{command}: {answer:#?}");
        let result = &answer.body["data"]["result"];
        assert_eq!(result["exitCode"], code, "{command}");
    }
    let kept = tenant.stdout_in("s", "pwd; printenv A B").await;
    assert_eq!(kept, "/usr\nkept\n1");
}
