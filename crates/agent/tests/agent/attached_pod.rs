//! The agent in a container of an attached pod. It is not PID 1, an exec has brought it,
//! and it has to outlive that exec.

use std::path::PathBuf;
use std::sync::Arc;

use hutch_wire::v1::Start;
use hutch_wire::v1::exec_input::Input;
use tokio::task::JoinSet;

use crate::sandbox::{Client, Outcome, Sandbox, agent, script};
use crate::wait::eventually;

/// A container with its own first process, and a directory with the agent's binary.
struct AttachedPod {
    container: Sandbox,
    directory: tempfile::TempDir,
}

impl AttachedPod {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy(agent(), directory.path().join("agent")).unwrap();
        Self {
            container: Sandbox::of_others("echo serves >&2; exec sleep 1000").await,
            directory,
        }
    }

    fn binary(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    async fn connect(&self) -> Client {
        self.container
            .connect_by(&self.binary(), &["connect", "--start"])
            .await
    }

    /// The agents in the container.
    fn agents(&self) -> Vec<i32> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let here = |pid: &i32| {
            let link = |what: &str| std::fs::read_link(format!("/proc/{pid}/{what}")).ok();
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            link("exe").as_deref() == Some(&self.binary()) && contains(&line, b"--attached")
        };
        let found: Vec<i32> = pids.filter(here).collect();
        // An agent that starts a command has a child of the same program for a moment.
        let parent = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let (_, fields) = stat.rsplit_once(')')?;
            fields.split_whitespace().nth(1)?.parse::<i32>().ok()
        };
        let first = |pid: &i32| parent(pid).is_some_and(|parent| !found.contains(&parent));
        found.iter().copied().filter(first).collect()
    }
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.split(|byte| *byte == 0).any(|part| part == word)
}

async fn in_session(client: &Client, id: &str, text: &str) -> Outcome {
    let start = Start {
        session: "s".into(),
        ..script(id, text)
    };
    client.run(start).await
}

#[tokio::test]
async fn an_agent_outlives_the_exec_that_started_it() {
    let pod = AttachedPod::new().await;
    let client = pod.connect().await;
    assert_eq!(
        in_session(&client, "a", "cd /tmp; x=1; sleep 1000 &")
            .await
            .exit
            .code,
        0
    );
    let first = pod.agents();
    assert_eq!(first.len(), 1);
    client.cut().await;
    let client = pod.connect().await;
    assert_eq!(
        in_session(&client, "b", "echo $x $PWD").await.out(),
        "1 /tmp\n"
    );
    assert_eq!(client.activity().await.background, 1);
    assert_eq!(pod.agents(), first);
}

#[tokio::test]
async fn many_clients_that_connect_at_once_start_one_agent() {
    let pod = AttachedPod::new().await;
    let pod = Arc::new(pod);
    let mut coming = JoinSet::new();
    for _ in 0..16 {
        let pod = pod.clone();
        coming.spawn(async move { pod.connect().await });
    }
    for client in coming.join_all().await {
        assert_eq!(client.sh("echo here").await.out(), "here\n");
    }
    assert_eq!(pod.agents().len(), 1);
}

#[tokio::test]
async fn signals_that_can_be_ignored_do_not_end_an_agent_and_after_others_it_is_started_again() {
    let pod = AttachedPod::new().await;
    let client = pod.connect().await;
    in_session(&client, "a", "x=kept").await;
    let first = pod.agents();
    let text = "for s in TERM INT HUP QUIT USR1; do kill -$s $PPID; done; kill -TERM -1; echo";
    // It kills the client's own `connect`.
    let _ = client.call(Input::Start(script("t", text))).await;
    drop(client);
    let client = pod.connect().await;
    assert_eq!(pod.agents(), first);
    // SIGKILL ends the agent. The values of the sessions are on disk.
    let _ = client
        .call(Input::Start(script("k", "kill -KILL $PPID")))
        .await;
    let agents = async || pod.agents();
    eventually("the killed agent is gone", agents, |agents| {
        *agents != first
    })
    .await;
    let client = pod.connect().await;
    assert_eq!(in_session(&client, "b", "echo $x").await.out(), "kept\n");
    assert_ne!(pod.agents(), first);
}

#[tokio::test]
async fn the_socket_of_an_agent_serves_its_own_container_only() {
    // Both containers are in one network, as those of a pod are.
    let pod = AttachedPod::new().await;
    let client = pod.connect().await;
    assert_eq!(client.sh("echo here").await.out(), "here\n");
    let other = pod
        .container
        .beside("echo serves >&2; exec sleep 1000")
        .await;
    let client = other
        .connect_by(&pod.binary(), &["connect", "--start"])
        .await;
    let seen = client.sh("readlink /proc/self/ns/mnt").await;
    let theirs = std::fs::read_link(format!("/proc/{}/ns/mnt", other.pid)).unwrap();
    assert_eq!(seen.out().trim(), theirs.to_str().unwrap());
    assert_eq!(pod.agents().len(), 2);
}
