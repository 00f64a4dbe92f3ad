//! Size and memory of the agent, latency and rate of commands, throughput of output.

use std::time::Instant;

use hutch_wire::v1::Start;
use hutch_wire::v1::exec_output::Output;
use tokio::task::JoinSet;

use crate::Times;
use crate::sandbox::{Client, Sandbox, agent, argv, script};

const RUNS: usize = 500;
const SESSIONS: usize = 16;
const RUNS_PER_SESSION: usize = 100;
const OUTPUT_BYTES: &str = "67108864";

/// Prints all figures.
pub async fn measure() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    println!("binary {} bytes", std::fs::metadata(agent()).unwrap().len());
    println!("idle {} kB resident", sandbox.resident_kilobytes());
    let client = sandbox.connect().await;
    latency(&client).await;
    rate(&sandbox).await;
    throughput(&client).await;
    println!("then {} kB resident", sandbox.resident_kilobytes());
}

async fn in_session(client: &Client, session: &str, run: usize) {
    let start = Start {
        session: session.into(),
        ..script(&format!("{session}-{run}"), "true")
    };
    client.run(start).await;
}

async fn latency(client: &Client) {
    let mut times = Times::default();
    for run in 0..RUNS {
        let begin = Instant::now();
        let start = argv(&format!("run-{run}"), &["bash", "-c", "true"]);
        client.run(start).await;
        times.add(begin);
    }
    times.print("bash -c true");
    let mut times = Times::default();
    for run in 0..RUNS {
        let begin = Instant::now();
        in_session(client, "s", run).await;
        times.add(begin);
    }
    times.print("true in a session");
}

/// CPU time of the agent and of the processes that it has reaped (`proc_pid_stat(5)`).
fn cpu_milliseconds(sandbox: &Sandbox) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sandbox.pid)).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    // From `utime` to `cstime`, in ticks of 10 ms.
    let times = fields.split_whitespace().skip(11).take(4);
    times.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

async fn rate(sandbox: &Sandbox) {
    let begin = Instant::now();
    let cpu_before = cpu_milliseconds(sandbox);
    let mut sessions = JoinSet::new();
    for number in 0..SESSIONS {
        let client = sandbox.connect().await;
        sessions.spawn(async move {
            for run in 0..RUNS_PER_SESSION {
                in_session(&client, &format!("beside-{number}"), run).await;
            }
        });
    }
    sessions.join_all().await;
    let runs = (SESSIONS * RUNS_PER_SESSION) as f64;
    let rate = runs / begin.elapsed().as_secs_f64();
    let cpu = (cpu_milliseconds(sandbox) - cpu_before) as f64 / runs;
    println!("in {SESSIONS} sessions at once: {rate:.0} per second");
    println!("with {cpu:.2} ms of CPU of the agent and the shells each");
}

async fn throughput(client: &Client) {
    let begin = Instant::now();
    let mut bytes = 0;
    let start = argv("much", &["head", "-c", OUTPUT_BYTES, "/dev/zero"]);
    let count = |output| {
        if let Output::Stdout(piece) = output {
            bytes += piece.len();
        }
    };
    client.start(start).await.each(count).await.unwrap();
    let took = begin.elapsed().as_millis();
    println!("{bytes} bytes of output in {took} ms");
}
