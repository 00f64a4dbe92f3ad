//! Projects: the time until a row names a pod that has become Ready, with a real PostgreSQL
//! server, and the cost of a conversation's command beyond a tenant's.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use serde_json::json;
use sqlx::Row;

use crate::commands::exec_through;
use crate::report::{Measure, Report, Times};
use crate::start::is_ready;
use crate::support::backend::Backend;
use crate::support::postgres::Postgres;
use crate::support::world::{WAIT_TIMEOUT, eventually};
use crate::support::{Tenant, World};
use hutch_core::names;

/// A debug build only checks that the bench works.
const SANDBOXES: usize = if cfg!(debug_assertions) { 8 } else { 100 };
/// The number that becomes ready within a few seconds.
const AT_ONCE: usize = 10;
const COMMANDS: usize = if cfg!(debug_assertions) { 50 } else { 500 };

pub async fn measure(report: &mut Report) {
    let (world, postgres) = (World::new("bench-projects").await, Postgres::start().await);
    let flags = postgres.flags(postgres.port);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let hutch = world.hutch("run", &flags).await;
    let url = hutch.url().await;
    rows(&world, &postgres, report).await;
    added(&postgres, &Tenant::new(&url, "known"), &url, report).await;
}

async fn rows(world: &World, postgres: &Postgres, report: &mut Report) {
    let mut lags = Vec::new();
    for first in (0..SANDBOXES).step_by(AT_ONCE) {
        let batch: Vec<_> = (first..SANDBOXES.min(first + AT_ONCE))
            .map(|number| format!("row-{number}"))
            .collect();
        lags.extend(lags_of(world, postgres, &batch).await);
    }
    let lags = Times::new(lags);
    for percent in [50, 99] {
        let value = lags.percentile(percent);
        report.add(&Measure {
            name: &format!("pod Ready to committed container_name, p{percent}"),
            value,
            unit: "ms",
            baseline: None,
            target: (percent == 99).then_some(("under 1000 ms", value < 1000.0)),
        });
    }
}

/// One batch from Ready to the commit, by the server's own commit times.
async fn lags_of(world: &World, postgres: &Postgres, batch: &[String]) -> Vec<Duration> {
    let create = async {
        for name in batch {
            postgres.project(name).await;
            let workspace = json!({"persistence": "Ephemeral", "size": "64Mi"});
            let spec = json!({"project": {"id": name}, "workspace": workspace});
            let spec = serde_json::from_value(spec).unwrap();
            world.create(name, spec).await;
        }
    };
    let (ready, ()) = tokio::join!(when_ready(world, batch), create);
    eventually("every row names its pod", async || {
        let named = join_all(batch.iter().map(|name| postgres.container(name))).await;
        named.iter().all(Option::is_some).then_some(())
    })
    .await;
    let text = "SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 \
                FROM projects WHERE container_name IS NOT NULL";
    let mut lags = Vec::new();
    for row in postgres.sql(text).await {
        // The watch of this process may be slower than that of the projector.
        if let Some(ready) = ready.get(row.get::<&str, _>(0)) {
            lags.push(Duration::from_secs_f64(
                (row.get::<f64, _>(1) - ready).max(0.0),
            ));
        }
    }
    assert_eq!(lags.len(), batch.len());
    join_all(batch.iter().map(|name| world.delete(name))).await;
    join_all(batch.iter().map(|name| world.gone::<Pod>(name))).await;
    lags
}

/// When each of these pods was first seen to be Ready, in Unix seconds.
async fn when_ready(world: &World, pods: &[String]) -> HashMap<String, f64> {
    let seen = watcher(world.pods(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .try_filter(|pod| {
            std::future::ready(is_ready(Some(pod)) && pods.contains(&pod.name_any()))
        });
    let mut ready = HashMap::new();
    let mut seen = std::pin::pin!(seen);
    while ready.len() < pods.len() {
        let next = tokio::time::timeout(WAIT_TIMEOUT, seen.next()).await;
        let pod: Pod = next.expect("a pod becomes Ready").unwrap().unwrap();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        ready.entry(pod.name_any()).or_insert(now);
    }
    ready
}

/// Compares a conversation's command with a tenant's in the same pod.
async fn added(postgres: &Postgres, tenant: &Tenant, url: &str, report: &mut Report) {
    tenant.create().await.ok();
    postgres.project("known").await;
    let name = names::sandbox("known");
    let set = "UPDATE projects SET container_name";
    postgres
        .sql(&format!("{set} = '{name}' WHERE id = 'known'"))
        .await;
    let conversation = Backend::new(url, "s-known");
    assert_eq!(conversation.stdout("hostname").await.trim_end(), name);
    let (mut execute, mut exec) = (Vec::new(), Vec::new());
    // Both take turns, so that other load of the machine affects both.
    for _ in 0..COMMANDS {
        exec.push(exec_through(tenant).await);
        let began = Instant::now();
        conversation.stdout("true").await;
        execute.push(began.elapsed());
    }
    let (execute, exec) = (
        Times::new(execute).percentile(50),
        Times::new(exec).percentile(50),
    );
    report.add(&Measure {
        name: "/execute of true on a known session, p50",
        value: execute,
        unit: "ms",
        baseline: None,
        target: None,
    });
    report.add(&Measure {
        name: "time that /execute adds to /exec in the same pod, p50",
        value: execute - exec,
        unit: "ms",
        baseline: None,
        target: Some(("at most 1 ms", execute - exec <= 1.0)),
    });
}
