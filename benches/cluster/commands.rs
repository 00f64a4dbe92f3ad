//! Commands through the facade, and commands with a new exec of the API server each.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::ResourceExt;
use kube::api::AttachParams;
use serde_json::json;

use crate::report::{Measure, Report, Times};
use crate::support::{Tenant, World};

const COMMANDS: usize = 500;
const FRESH: usize = 100;
const TURNS: usize = 5;
const CLIENTS: usize = 16;
const BYTES: usize = 64 << 20;

pub async fn measure(world: &World, tenant: &Tenant, report: &mut Report) {
    tenant.create().await.ok();
    let pod = world.sandbox_of("bench").await.name_any();
    let (mut fresh, mut facade) = (Vec::new(), Vec::new());
    // Both kinds take turns, so that other load of the machine affects both. Each turn has
    // many of one kind, because the cleanup after a fresh exec continues after its answer.
    for _ in 0..TURNS {
        for _ in 0..FRESH / TURNS {
            fresh.push(exec_afresh(world, &pod).await);
        }
        for _ in 0..COMMANDS / TURNS {
            facade.push(exec_through(tenant).await);
        }
    }
    let (fresh, facade) = (Times::new(fresh), Times::new(facade));
    for percent in [50, 90, 99] {
        let (value, baseline) = (facade.percentile(percent), fresh.percentile(percent));
        let goal = "at most 3 ms and 0.05 of a fresh exec";
        report.add(&Measure {
            name: &format!("/exec of true, p{percent}"),
            value,
            unit: "ms",
            baseline: Some(baseline),
            target: (percent == 50).then_some((goal, value <= 3.0 && value * 20.0 <= baseline)),
        });
    }
    throughput(tenant, report).await;
    output(tenant, report).await;
}

pub async fn exec_through(tenant: &Tenant) -> Duration {
    let began = Instant::now();
    tenant.post("/exec", json!({"command": "true"})).await.ok();
    began.elapsed()
}

/// A service that runs each command with its own exec.
async fn exec_afresh(world: &World, pod: &str) -> Duration {
    let began = Instant::now();
    let params = AttachParams::default().container("sandbox").stderr(false);
    let command = ["bash", "-c", "true"];
    let mut process = world.pods().exec(pod, command, &params).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"), "{status:?}");
    began.elapsed()
}

async fn throughput(tenant: &Tenant, report: &mut Report) {
    let each = COMMANDS * 4 / CLIENTS;
    let began = Instant::now();
    join_all((0..CLIENTS).map(|_| {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                exec_through(&tenant).await;
            }
        })
    }))
    .await;
    let rate = (each * CLIENTS) as f64 / began.elapsed().as_secs_f64();
    report.add(&Measure {
        name: "/exec of true, 16 clients",
        value: rate,
        unit: "commands/s",
        baseline: None,
        target: None,
    });
}

async fn output(tenant: &Tenant, report: &mut Report) {
    let command = format!("head -c {BYTES} /dev/zero | tr '\\0' x");
    let mut times = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let stdout = tenant.stdout(&command).await;
        times.push(began.elapsed());
        assert_eq!(stdout.len(), BYTES);
    }
    let seconds = Times::new(times).percentile(50) / 1000.0;
    report.add(&Measure {
        name: "output of 64 MiB as JSON",
        value: BYTES as f64 / 1e6 / seconds,
        unit: "MB/s",
        baseline: None,
        target: None,
    });
}
