//! Latency of small and large files, and the memory that is left in use.

#[path = "../../tests/agent/files/scene.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod scene;

use std::time::{Duration, Instant};

use crate::Times;
use scene::Scene;

const SMALL_RUNS: usize = 300;
const LARGE_RUNS: usize = 30;
const LARGE_BYTES: usize = 5 << 20;
/// Longer than an idle thread of the agent lives.
const THREADS_ENDED: Duration = Duration::from_secs(6);

/// Prints all figures.
pub async fn measure() {
    let scene = Scene::new().await;
    println!("idle {} kB resident", scene.sandbox.resident_kilobytes());
    latency(&scene, "9 B", b"some text", SMALL_RUNS).await;
    latency(&scene, "5 MiB", &vec![7; LARGE_BYTES], LARGE_RUNS).await;
    println!("then {} kB resident", scene.sandbox.resident_kilobytes());
    tokio::time::sleep(THREADS_ENDED).await;
    println!(
        "{THREADS_ENDED:?} later {} kB resident",
        scene.sandbox.resident_kilobytes()
    );
}

async fn latency(scene: &Scene, size: &str, bytes: &[u8], runs: usize) {
    let (mut writes, mut reads) = (Times::default(), Times::default());
    for _ in 0..runs {
        let begin = Instant::now();
        scene.write("file", bytes).await.unwrap();
        writes.add(begin);
        let begin = Instant::now();
        scene.read("file").await.unwrap();
        reads.add(begin);
    }
    writes.print(&format!("write of {size}"));
    reads.print(&format!("read of {size}"));
}
