//! Numbers, for people: `cargo test -p hutch-agent --test agent -- --ignored
//! --nocapture`, with the path of the static binary in `HUTCH_AGENT`.

use std::time::Instant;

use hutch_wire::v1::exec_output::Output;

use crate::sandbox::{Sandbox, agent, argv};

#[tokio::test]
#[ignore = "prints numbers and asserts nothing"]
async fn size_memory_latency_throughput() {
    let state = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_state(state.path()).await;
    println!("binary {} bytes", std::fs::metadata(agent()).unwrap().len());
    println!("idle {} kB resident", sandbox.resident_kilobytes());
    let client = sandbox.connect().await;
    let mut times = Vec::new();
    for run in 0..500 {
        let begin = Instant::now();
        client
            .run(argv(&format!("run-{run}"), &["bash", "-c", "true"]))
            .await;
        times.push(begin.elapsed().as_micros());
    }
    times.sort_unstable();
    println!("bash -c true: p50 {} us, p99 {} us", times[250], times[495]);
    let mut times = Vec::new();
    for _ in 0..500 {
        let begin = Instant::now();
        client.within("s", "true").await;
        times.push(begin.elapsed().as_micros());
    }
    times.sort_unstable();
    println!("in a session: p50 {} us, p99 {} us", times[250], times[495]);
    let begin = Instant::now();
    let before = sandbox.processor_milliseconds();
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..16 {
        let client = sandbox.connect().await;
        sessions.spawn(async move {
            for _ in 0..100 {
                client.within(&number.to_string(), "true").await;
            }
        });
    }
    sessions.join_all().await;
    let rate = 1_600_000 / begin.elapsed().as_millis();
    println!("in 16 sessions at once: {rate} per second");
    // In hundredths.
    let each = (sandbox.processor_milliseconds() - before) / 16;
    println!(
        "with {}.{:02} ms of agent and shells each",
        each / 100,
        each % 100
    );
    let begin = Instant::now();
    let mut bytes = 0;
    let call = client
        .start(argv("much", &["head", "-c", "67108864", "/dev/zero"]))
        .await;
    let count = |output| {
        if let Output::Stdout(piece) = output {
            bytes += piece.len();
        }
    };
    call.each(count).await.unwrap();
    println!(
        "{bytes} bytes of output in {} ms",
        begin.elapsed().as_millis()
    );
    println!("then {} kB resident", sandbox.resident_kilobytes());
}
