//! How commands end, by themselves or by the timeout, and the processes that they leave.

use hutch_wire::v1::Start;

use crate::sandbox::{Client, Sandbox, argv, script};
use crate::wait::eventually;

/// Waits until the sandbox has exactly so many background processes.
async fn background(client: &Client, wanted: u32) {
    let awaited = format!("{wanted} background processes are left");
    let count = async || client.activity().await.background;
    eventually(&awaited, count, |seen| *seen == wanted).await;
}

#[tokio::test]
async fn a_background_child_does_not_hold_the_call() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let outcome = client.sh("sleep 1000 & echo $!").await;
    assert!(!outcome.out().is_empty());
    let outcome = client
        .sh("setsid sleep 1000 & setsid -f sleep 1000; echo done")
        .await;
    assert_eq!(outcome.out(), "done\n");
    background(&client, 3).await;
}

#[tokio::test]
async fn a_background_flood_does_not_hold_the_call() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    for id in ["a", "b"] {
        let outcome = client
            .run(script(id, "yes & yes >&2 & echo first; exit 4"))
            .await;
        assert_eq!(outcome.exit.code, 4);
    }
    assert_eq!(client.sh("echo next").await.out(), "next\n");
    assert!(sandbox.resident_kilobytes() < 40_000);
}

#[tokio::test]
async fn a_background_server_outlives_its_output_pipe() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let mark = mark.display();
    // It writes more than a pipe holds. Without a reader, SIGPIPE would end it.
    let text = format!("(read x <{mark}.go; head -c 1000000 /dev/zero && echo lives >{mark}) &");
    client.sh(&format!("mkfifo {mark}.go {mark}")).await;
    client.sh(&text).await;
    assert_eq!(
        client
            .sh(&format!("echo >{mark}.go; cat {mark}"))
            .await
            .out(),
        "lives\n"
    );
}

#[tokio::test]
async fn a_timeout_kills_and_keeps_the_output() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text = "trap '' TERM; head -c 300000 /dev/zero; echo err >&2; sleep 1000; echo late";
    let outcome = client
        .run(Start {
            timeout_ms: 300,
            ..script("a", text)
        })
        .await;
    assert_eq!((outcome.exit.code, outcome.exit.timed_out), (124, true));
    assert_eq!((outcome.stdout.len(), outcome.err()), (300_000, "err\n"));
    assert!(outcome.exit.duration_us >= 300_000);
    background(&client, 0).await;
}

#[tokio::test]
async fn a_timeout_kills_processes_that_left_the_group() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text = "setsid sh -c 'setsid sleep 1000 & sleep 1000' & \
                bash -c 'set -m; sleep 1000 & wait' & wait";
    let outcome = client
        .run(Start {
            timeout_ms: 300,
            ..script("a", text)
        })
        .await;
    assert!(outcome.exit.timed_out);
    background(&client, 0).await;
}

#[tokio::test]
async fn a_command_that_ends_in_time_is_not_killed() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    for (id, timeout_ms) in [("a", 60_000), ("b", u64::MAX)] {
        let outcome = client
            .run(Start {
                timeout_ms,
                ..script(id, "sleep 1000 & exit 6")
            })
            .await;
        assert_eq!((outcome.exit.code, outcome.exit.timed_out), (6, false));
    }
    background(&client, 2).await;
}

#[tokio::test]
async fn a_shell_that_stops_itself_has_ended() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let outcome = client
        .sh("sleep 1000 & echo before; kill -STOP $$; echo after")
        .await;
    assert_eq!((outcome.exit.code, outcome.exit.signal), (128 + 19, 19));
    assert_eq!(outcome.out(), "before\n");
    background(&client, 0).await;
}

#[tokio::test]
async fn activity_counts_running_and_background_processes() {
    let sandbox = Sandbox::with_entrypoint(&["sh", "-c", "sleep 1000 & sleep 1000"]).await;
    let client = sandbox.connect().await;
    let mut call = client
        .start(script("a", "sleep 1000 & echo up; wait"))
        .await;
    call.until("up").await;
    let activity = client.activity().await;
    assert_eq!((activity.running, activity.background), (1, 0));
    client
        .run(argv("b", &["setsid", "-f", "sleep", "1000"]))
        .await;
    background(&client, 1).await;
    assert_eq!(client.activity().await.running, 1);
}
