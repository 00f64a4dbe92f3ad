//! Resident memory with a hundred sandboxes.

use futures::{StreamExt, stream};

use crate::report::{Measure, Report};
use crate::support::hutch::resident;
use crate::support::{Hutch, Tenant, World, world::agent_pid};

const SANDBOXES: usize = 100;
const AT_ONCE: usize = 8;

pub async fn measure(
    world: &World,
    tenant: &Tenant,
    [controller, facade]: [&Hutch; 2],
    report: &mut Report,
) {
    // The agent of a sandbox that has run hundreds of commands, before the others are
    // started.
    let agent = resident(agent_pid(world, "bench").await);
    stream::iter(0..SANDBOXES)
        .map(|number| {
            let tenant = tenant.about(&format!("many-{number}"));
            async move {
                tenant.create().await.ok();
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (name, bytes, limit) in [
        (
            "resident memory of the controller, 100 sandboxes",
            controller.resident(),
            40.0,
        ),
        (
            "resident memory of the facade, 100 sandboxes",
            facade.resident(),
            40.0,
        ),
        ("resident memory of an agent", agent, 10.0),
    ] {
        let value = mib(bytes);
        report.add(&Measure {
            name,
            value,
            unit: "MiB",
            baseline: None,
            target: Some((&format!("under {limit} MiB"), value < limit)),
        });
    }
}
