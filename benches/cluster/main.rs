//! Measures the operations that users wait for, on a real cluster, next to the same
//! work without Hutch. `make bench` runs it, prints one table, writes the table to
//! `docs/benchmarks.md` and all figures to `target/bench/report.json`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod buckets;
mod commands;
mod files;
mod memory;
mod projects;
mod report;
mod sessions;
mod start;

use report::Report;
use support::{Tenant, World};

#[tokio::main]
async fn main() {
    let world = World::new("bench").await;
    let controller = world.hutch("controller", &[]).await;
    let facade = world.hutch("facade", &["--max-output", "64Mi"]).await;
    let tenant = Tenant::new(&facade.url().await, "bench");
    let mut report = Report::new();

    start::measure(&world, &tenant, &mut report).await;
    commands::measure(&world, &tenant, &mut report).await;
    sessions::measure(&tenant, &mut report).await;
    files::measure(&tenant, &mut report).await;
    projects::measure(&mut report).await;
    buckets::measure(&mut report).await;
    memory::measure(&world, &tenant, [&controller, &facade], &mut report).await;
    report.finish();
}
