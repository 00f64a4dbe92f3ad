//! Measures an agent in a sandbox of this machine and prints the figures. It needs root
//! and checks nothing: `cargo bench -p hutch-agent --bench agent -- [PART]...`. The parts
//! are `commands`, `files` and `search`; without a name all of them run. `HUTCH_AGENT`
//! names another binary, for example the static one of the image.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement ends at the first error"
)]

mod commands;
mod files;
#[path = "../../tests/agent/sandbox/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
mod sandbox;
mod search;
#[path = "../../tests/agent/wait.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod wait;

use std::time::Instant;

/// Durations of one operation, in microseconds.
#[derive(Default)]
struct Times(Vec<u128>);

impl Times {
    fn add(&mut self, begin: Instant) {
        self.0.push(begin.elapsed().as_micros());
    }

    fn print(mut self, name: &str) {
        self.0.sort_unstable();
        let percentile = |percent: usize| self.0[(self.0.len() - 1) * percent / 100];
        println!(
            "{name}: p50 {} us, p95 {} us, p99 {} us",
            percentile(50),
            percentile(95),
            percentile(99)
        );
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo adds `--bench`.
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    if wanted("commands") {
        commands::measure().await;
    }
    if wanted("files") {
        files::measure().await;
    }
    if wanted("search") {
        search::measure().await;
    }
}
