//! Sessions: commands in one session and in many, creation and deletion.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::report::{Measure, Report, Times};
use crate::support::Tenant;

const COMMANDS: usize = 500;
const LIVES: usize = 200;
const SESSIONS: usize = 16;
const PARALLEL: usize = 800;
const ROUNDS: usize = 3;
const LINES: usize = 200_000;

pub async fn measure(tenant: &Tenant, report: &mut Report) {
    let mut times = Vec::new();
    exec(tenant, "one", "true").await;
    for _ in 0..COMMANDS {
        times.push(exec(tenant, "one", "true").await);
    }
    let times = Times::new(times);
    for percent in [50, 99] {
        let value = times.percentile(percent);
        report.add(&Measure {
            name: &format!("/session/exec of true, p{percent}"),
            value,
            unit: "ms",
            baseline: None,
            target: (percent == 50).then_some(("at most 3 ms", value <= 3.0)),
        });
    }
    lives(tenant, report).await;
    parallel(tenant, report).await;
    lines(tenant, report).await;
}

async fn exec(tenant: &Tenant, session: &str, command: &str) -> Duration {
    let body = json!({"sessionId": session, "command": command});
    let began = Instant::now();
    tenant.post("/session/exec", body).await.ok();
    began.elapsed()
}

async fn lives(tenant: &Tenant, report: &mut Report) {
    let mut times = Vec::new();
    for number in 0..LIVES {
        let began = Instant::now();
        let body = json!({"id": format!("life-{number}")});
        tenant.post("/session", body).await.ok();
        let path = format!("/session?session_id=life-{number}");
        tenant.send(Method::DELETE, &path, "").await.ok();
        times.push(began.elapsed());
    }
    let value = Times::new(times).percentile(50);
    report.add(&Measure {
        name: "session created and deleted, p50",
        value,
        unit: "ms",
        baseline: None,
        target: Some(("at most 3 ms", value <= 3.0)),
    });
}

async fn parallel(tenant: &Tenant, report: &mut Report) {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        join_all((0..SESSIONS).map(|number| {
            let tenant = tenant.clone();
            tokio::spawn(async move {
                for _ in 0..PARALLEL / SESSIONS {
                    exec(&tenant, &format!("side-{number}"), "true").await;
                }
            })
        }))
        .await;
        times.push(began.elapsed());
    }
    let rate = PARALLEL as f64 * 1000.0 / Times::new(times).percentile(50);
    report.add(&Measure {
        name: "/session/exec of true, 16 sessions",
        value: rate,
        unit: "commands/s",
        baseline: None,
        target: Some(("at least 800/s", rate >= 800.0)),
    });
}

async fn lines(tenant: &Tenant, report: &mut Report) {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(exec(tenant, "one", &format!("seq {LINES}")).await);
    }
    let value = Times::new(times).percentile(50) / 1000.0;
    report.add(&Measure {
        name: "200,000 lines of output",
        value,
        unit: "s",
        baseline: None,
        target: Some(("at most 0.3 s", value <= 0.3)),
    });
}
