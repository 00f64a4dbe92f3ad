//! A cold start, from the first request to the first command's answer, compared with a bare
//! pod of the same spec and volumes.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_pod_running};

use crate::report::{Measure, Report, Times};
use crate::support::{Tenant, World, audit};

const STARTS: usize = 10;

/// The writes in the namespace, without leases and execs. `None`, and a line on stderr, on
/// a cluster that is not the test cluster: its audit log cannot be read.
fn writes_so_far(world: &World) -> Option<usize> {
    if world.environment.cluster.is_none() {
        eprintln!(
            "skipped: the API writes per sandbox, which need the audit log of a test cluster"
        );
        return None;
    }
    let mut writes = audit::writes(world.environment, &world.namespace);
    writes.retain(|write| write.resource != "leases" && !write.resource.starts_with("pods/exec"));
    Some(writes.len())
}

pub async fn measure(world: &World, tenant: &Tenant, report: &mut Report) {
    let model = tenant.about("model");
    model.create().await.ok();
    let writes = writes_so_far(world);
    // The first exec into a node costs more than the others: the kubelet has to ask for
    // the caller's rights, and remembers the answer.
    model.stdout("true").await;
    let sandbox = world.sandbox_of("model").await;
    let pod = world.pods().get(&sandbox.name_any()).await.unwrap();
    let claim = sandbox.status.unwrap().claim_name.unwrap();
    let claim = world.claims().get(&claim).await.unwrap();
    model.destroy().await.ok();

    let (mut cold, mut bare) = (Vec::new(), Vec::new());
    for number in 0..STARTS {
        bare.push(start_bare(world, number, &pod, &claim).await);
        let fresh = tenant.about(&format!("cold-{number}"));
        let began = Instant::now();
        fresh.stdout("true").await;
        cold.push(began.elapsed());
        fresh.destroy().await.ok();
    }
    let (cold, bare) = (Times::new(cold), Times::new(bare));
    let (value, baseline) = (cold.percentile(50), bare.percentile(50));
    report.add(&Measure {
        name: "cold start to the first answer, p50",
        value,
        unit: "ms",
        baseline: Some(baseline),
        target: Some(("at most 1.15 times the bare pod", value <= 1.15 * baseline)),
    });
    if let Some(writes) = writes {
        report.add(&Measure {
            name: "API writes per sandbox created",
            value: writes as f64,
            unit: "writes",
            baseline: None,
            target: Some(("at most 6", writes <= 6)),
        });
    }
}

/// Creates claim and pod as Hutch does. Measures from the first POST to Ready.
async fn start_bare(
    world: &World,
    number: usize,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
) -> Duration {
    let name = format!("bare-{number}");
    let meta = || ObjectMeta {
        name: Some(name.clone()),
        ..Default::default()
    };
    let mut claim = PersistentVolumeClaim {
        metadata: meta(),
        status: None,
        ..claim.clone()
    };
    claim.spec.as_mut().unwrap().volume_name = None;
    let mut pod = Pod {
        metadata: meta(),
        status: None,
        ..pod.clone()
    };
    let spec = pod.spec.as_mut().unwrap();
    spec.node_name = None;
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(source) = &mut volume.persistent_volume_claim {
            source.claim_name = name.clone();
        }
    }
    let (pods, claims, post) = (world.pods(), world.claims(), PostParams::default());
    let began = Instant::now();
    claims.create(&post, &claim).await.unwrap();
    pods.create(&post, &pod).await.unwrap();
    await_condition(pods.clone(), &name, is_pod_running())
        .await
        .unwrap();
    await_condition(pods.clone(), &name, is_ready)
        .await
        .unwrap();
    let took = began.elapsed();
    pods.delete(&name, &Default::default()).await.unwrap();
    world.gone::<Pod>(&name).await;
    claims.delete(&name, &Default::default()).await.unwrap();
    // Waits for the end, as a sandbox's deletion does: the next start has the machine to
    // itself.
    world.gone::<PersistentVolumeClaim>(&name).await;
    took
}

pub fn is_ready(pod: Option<&Pod>) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
