//! The sandbox controller: observe, plan, apply, status. What is there comes from
//! the caches, what is to be done from pure functions, and every write from
//! `apply` and `report`.

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

/// Brings one sandbox a step nearer to its spec.
pub async fn reconcile(sandbox: Arc<Sandbox>, ctx: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let observed = observe::observe(sandbox, ctx, now);
    let plan = plan::plan(&observed, &ctx.settings, now);
    let applied = apply::apply(ctx, &observed, plan).await?;
    if !applied.expired && applied.verdict != Verdict::Unchanged {
        report(ctx, &observed, &applied, now).await?;
    }
    Ok(next(&applied))
}

/// Writes the status if it tells anything new, then the event that goes with it.
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
        mounter: observed.mounter,
        slept_at: applied.slept_at.clone(),
        resize_refused: applied.resize_refused.as_deref(),
    };
    let status = status::status(&input, now);
    if !status::worth_writing(&input, &status) {
        return Ok(());
    }
    // Falling asleep leads to the pod's end: not on a stale view of its use.
    let falls_asleep = applied.slept_at.is_some() && !deadlines::is_asleep(sandbox);
    let written = if falls_asleep {
        ctx.writer.apply_status_unchanged(sandbox, &status).await
    } else {
        ctx.writer.apply_status(sandbox, &status).await
    };
    match written {
        Ok(written) => ctx.expectations.statuses.record(sandbox, written),
        // Deleted meanwhile: there is nobody left to tell.
        Err(Error::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error),
    }
    match status::event(sandbox.status.as_ref(), &status) {
        Some((true, reason, note)) => ctx.events.warning(sandbox, reason, note).await,
        Some((false, reason, note)) => ctx.events.normal(sandbox, reason, note).await,
        None => {}
    }
    Ok(())
}

/// When to look again: at the next deadline, and not before something happens if
/// there is none.
fn next(applied: &Applied) -> Action {
    let Some(at) = applied.wake_at.filter(|_| !applied.expired) else {
        return Action::await_change();
    };
    // Rounded up, so that the deadline has passed when it is looked at.
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    Action::requeue(left + Duration::from_millis(5))
}
