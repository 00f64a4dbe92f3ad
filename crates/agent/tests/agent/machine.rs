//! The agent as PID 1: orphans, signals, floods of processes, empty images.

use hutch_wire::v1::Start;
use hutch_wire::v1::exec_input::Input;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::sandbox::{Call, Client, Sandbox, agent, argv, put_agent, script};
use crate::wait::eventually;

#[tokio::test]
async fn orphans_are_reaped() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    client
        .sh("for i in $(seq 50); do (setsid -f true); done")
        .await;
    // A zombie that the agent does not reap stays for ever. Others vanish soon.
    let zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z 1 ' || true";
    let count = async || client.sh(zombies).await.out().to_owned();
    eventually("no zombie has the agent as its parent", count, |count| {
        count == "0\n"
    })
    .await;
}

#[tokio::test]
async fn killing_everything_leaves_the_agent() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    // It kills the client's own `connect`, too, and everything except PID 1.
    if let Ok(call) = client
        .call(Input::Start(script("a", "kill -9 -1; echo lives")))
        .await
    {
        let _ = call.finish().await;
    }
    drop(client);
    let client = sandbox.connect().await;
    assert_eq!(client.sh("echo here").await.out(), "here\n");
}

#[tokio::test]
async fn signals_from_inside_do_not_end_the_agent() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let text =
        "for s in TERM KILL INT HUP QUIT STOP TSTP USR1 ABRT SEGV; do kill -$s 1; done; echo";
    assert_eq!(client.sh(text).await.out(), "\n");
    let forged = "python3 - <<'E'\n\
        import ctypes, struct\n\
        info = ctypes.create_string_buffer(struct.pack('iiiiii', 15, 0, -1, 0, 0, 0), 128)\n\
        assert ctypes.CDLL(None).syscall(129, 1, 15, info) == 0\nE\n";
    let outcome = client.sh(forged).await;
    assert_eq!(outcome.exit.code, 0, "{}", outcome.err());
    assert_eq!(client.sh("echo here").await.out(), "here\n");
}

#[tokio::test]
async fn a_sigterm_from_outside_ends_the_sandbox() {
    let mut sandbox = Sandbox::with_entrypoint(&[
        "sh",
        "-c",
        "trap 'echo bye >&2; exit' TERM; echo up >&2; while :; do sleep 1000 & wait; done",
    ])
    .await;
    let client = sandbox.connect().await;
    client.sh("sleep 1000 &").await;
    sandbox.log_until("up").await;
    sandbox.signal_from_outside("TERM");
    sandbox.log_until("bye").await;
    assert!(sandbox.ended().await.success());
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_does_not_block_the_end_of_the_sandbox() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let mut call = client
        .start(script(
            "a",
            "trap '' TERM; echo up; while :; do sleep 1; done",
        ))
        .await;
    call.until("up").await;
    sandbox.signal_from_outside("TERM");
    assert!(sandbox.ended().await.success());
}

#[tokio::test]
async fn the_agent_stays_when_its_entrypoint_fails() {
    let mut sandbox = Sandbox::with_entrypoint(&["sh", "-c", "exit 3"]).await;
    let line = sandbox.log_line().await.unwrap();
    assert_eq!(
        line,
        "hutch-agent: the entrypoint sh ended with exit code 3"
    );
    let client = sandbox.connect().await;
    assert_eq!(client.sh("echo here").await.out(), "here\n");
    let sandbox = Sandbox::with_entrypoint(&["/nope"]).await;
    let client = sandbox.connect().await;
    assert_eq!(client.sh("echo here").await.out(), "here\n");
}

#[tokio::test]
async fn an_image_without_a_shell_runs_programs() {
    let root = tempfile::tempdir().unwrap();
    put_agent(root.path());
    let sandbox = Sandbox::without_an_image(root.path()).await;
    let client = sandbox.connect().await;
    assert_eq!(
        client.refused(Input::Start(script("a", "echo"))).await,
        Code::FailedPrecondition
    );
    let outcome = client.run(argv("b", &["/hutch-agent", "--version"])).await;
    assert!(outcome.out().starts_with("hutch-agent "), "{outcome:?}");
    assert_eq!(client.run(argv("c", &["ls"])).await.exit.code, 127);
    sandbox.signal_from_outside("TERM");
    assert!(sandbox.ended().await.success());
}

#[tokio::test]
async fn many_commands_run_side_by_side() {
    let sandbox = Sandbox::new().await;
    let client = std::sync::Arc::new(sandbox.connect().await);
    let mut calls = JoinSet::new();
    for number in 0..64 {
        let client = client.clone();
        calls.spawn(async move {
            let text = format!("seq 20000; echo {number} >&2; exit {number}");
            let outcome = client.run(script(&format!("n{number}"), text)).await;
            assert_eq!(outcome.exit.code, number);
            assert_eq!(
                (outcome.stdout.len(), outcome.err()),
                (108_894, format!("{number}\n").as_str())
            );
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(client.activity().await.running, 0);
}

/// More commands than the tests leave room for.
const TOO_MANY_COMMANDS: usize = 1000;

/// Starts commands until the agent refuses one. Returns the refusal and the commands
/// that run.
async fn start_until_refused(
    client: &Client,
    start: impl Fn(&str) -> Start,
) -> (Status, Vec<Call>) {
    let mut held = Vec::new();
    for number in 0..TOO_MANY_COMMANDS {
        match client
            .call(Input::Start(start(&format!("h{number}"))))
            .await
        {
            Ok(call) => held.push(call),
            Err(status) => return (status, held),
        }
    }
    panic!("the agent refused none of {TOO_MANY_COMMANDS} commands");
}

#[tokio::test]
async fn a_start_without_free_descriptors_is_refused() {
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    let narrow = client
        .run(argv("narrow", &["prlimit", "--pid", "1", "--nofile=40:40"]))
        .await;
    assert_eq!(narrow.exit.code, 0, "{narrow:?}");
    let (refused, held) = start_until_refused(&client, |id| script(id, "sleep 1000")).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(client.activity().await.running as usize, held.len());
}

/// True if a pid namespace has its own `pid_max`, as since Linux 6.14. On an older
/// kernel, writing it would limit the whole machine: then this prints that the test is
/// skipped.
fn processes_can_be_limited() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or_default());
    let can = (numbers.next(), numbers.next()) >= (Some(6), Some(14));
    if !can {
        eprintln!("skipped: a pid_max of one sandbox needs Linux 6.14, and this is {release}");
    }
    can
}

const LIMIT_PROCESSES: &str = "echo 400 >/proc/sys/kernel/pid_max";

#[tokio::test]
async fn a_start_without_free_processes_is_refused() {
    if !processes_can_be_limited() {
        return;
    }
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    assert_eq!(client.sh(LIMIT_PROCESSES).await.exit.code, 0);
    let start = |id: &str| argv(id, &["sleep", "1000"]);
    let (refused, held) = start_until_refused(&client, start).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(client.activity().await.running as usize, held.len());
}

#[tokio::test]
async fn a_fork_bomb_ends_with_its_time_limit() {
    if !processes_can_be_limited() {
        return;
    }
    let sandbox = Sandbox::new().await;
    let client = sandbox.connect().await;
    assert_eq!(client.sh(LIMIT_PROCESSES).await.exit.code, 0);
    let bomb = Start {
        timeout_ms: 1000,
        ..script("a", "b() { b & b & wait; }; b 2>/dev/null")
    };
    let outcome = client.run(bomb).await;
    assert_eq!((outcome.exit.code, outcome.exit.timed_out), (124, true));
    let background = async || client.activity().await.background;
    eventually("no background process is left", background, |count| {
        *count == 0
    })
    .await;
    assert_eq!(client.sh("echo here").await.out(), "here\n");
}

#[test]
fn install_brings_a_binary_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    let run = |program: &std::path::Path, arguments: &[&str]| {
        std::process::Command::new(program)
            .args(arguments)
            .output()
            .unwrap()
    };
    let path = directory.path().to_str().unwrap();
    assert!(run(agent().as_ref(), &["install", path]).status.success());
    assert!(
        run(agent().as_ref(), &["install", path]).status.success(),
        "again"
    );
    let help = run(&directory.path().join("hutch-agent"), &["--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("Usage:"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(
        !run(agent().as_ref(), &["install", "/no/such/folder"])
            .status
            .success()
    );
}
