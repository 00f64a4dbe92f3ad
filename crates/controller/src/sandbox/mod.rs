//! The sandbox controller: observe, plan, apply, report. `observe` reads the caches, pure
//! functions decide, and only `apply`, `provide` and `report` write.
//!
//! | module | contents |
//! | --- | --- |
//! | `observe` | a snapshot from the caches |
//! | `expectations` | recent writes that the caches may not show yet |
//! | `plan` | the decision: claim, pod, volumes. Pure |
//! | `diagnosis`, `problem` | the reason why a pod or a claim is not ready. Pure |
//! | `outdated` | compares the pod with the spec. Pure |
//! | `desired` | the objects as they should be. Pure |
//! | `mounts`, `volumes` | the buckets of a pod: state and volumes. Pure |
//! | `nudge` | makes the kubelet look at a pod again. Pure |
//! | `apply` | executes the plan |
//! | `provide` | creates and releases the volumes of buckets |
//! | `status` | conditions, status and events. Pure |

pub mod apply;
pub mod desired;
pub mod diagnosis;
pub mod expectations;
#[cfg(test)]
mod fixtures;
pub mod mounts;
pub mod nudge;
pub mod observe;
pub mod outdated;
pub mod plan;
pub mod problem;
pub mod provide;
pub mod status;
pub mod volumes;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;

use self::apply::Applied;
use self::observe::Observed;
use self::plan::Verdict;
use self::status::StatusInput;
use super::context::Context;
use hutch_api::Sandbox;
use hutch_core::deadlines;
use hutch_kube::apply::Error;
use hutch_kube::events::EventType;

/// Brings one sandbox a step nearer to its spec.
pub async fn reconcile(sandbox: Arc<Sandbox>, ctx: &Context) -> Result<Action, Error> {
    // The cache has a former version of it. Its next version that decodes is a trigger.
    if ctx.caches.sandboxes.has_unreadable(&*sandbox) {
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    let observed = observe::observe(sandbox, ctx, now);
    let plan = plan::plan(&observed, &ctx.settings, now);
    let applied = apply::apply(ctx, &observed, plan).await?;
    if !applied.expired && applied.verdict != Verdict::Unchanged {
        report(ctx, &observed, &applied, now).await?;
    }
    Ok(requeue(&applied))
}

/// Writes the status if it contains news for a user, then its event.
async fn report(
    ctx: &Context,
    observed: &Observed,
    applied: &Applied,
    now: Timestamp,
) -> Result<(), Error> {
    let sandbox = observed.sandbox.as_ref();
    let input = StatusInput {
        sandbox,
        pod: applied.pod.as_deref(),
        claim: applied.claim.as_deref(),
        verdict: &applied.verdict,
        mount_support: observed.mount_support,
        slept_at: applied.slept_at.clone(),
        resize_refused: applied.resize_refused.as_deref(),
    };
    let status = status::status(&input, now);
    if !status::worth_writing(&input, &status) {
        return Ok(());
    }
    // This write leads to the pod's end, so it must not rest on a stale view of the
    // sandbox's use.
    let falls_asleep = applied.slept_at.is_some() && !deadlines::is_asleep(sandbox);
    let written = if falls_asleep {
        ctx.writer.apply_status_unchanged(sandbox, &status).await
    } else {
        ctx.writer.apply_status(sandbox, &status).await
    };
    match written {
        Ok(written) => ctx.expectations.statuses.record(sandbox, written),
        // The sandbox was deleted meanwhile.
        Err(Error::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error),
    }
    if let Some(event) = status::event(sandbox.status.as_ref(), &status) {
        let (reason, note) = (event.reason, event.note);
        match event.kind {
            EventType::Normal => ctx.events.normal(sandbox, reason, note).await,
            EventType::Warning => ctx.events.warning(sandbox, reason, note).await,
        }
    }
    Ok(())
}

/// The next reconcile: at the next deadline, or only after a change if there is none.
fn requeue(applied: &Applied) -> Action {
    let Some(at) = applied.requeue_at.filter(|_| !applied.expired) else {
        return Action::await_change();
    };
    // Rounded up, so that the deadline has passed when the reconcile starts.
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    Action::requeue(left + Duration::from_millis(5))
}
