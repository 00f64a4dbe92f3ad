//! The decision about the claim of a persistent workspace.

use super::{ClaimStep, Verdict};
use crate::sandbox::desired::{belongs, workspace};
use crate::sandbox::observe::Observed;
use hutch_api::Sandbox;
use hutch_core::conditions;
use hutch_core::objects::is_ending;
use hutch_core::reasons::Reason;

pub fn decide(observed: &Observed, verdict: &Verdict) -> ClaimStep {
    let sandbox = &observed.sandbox;
    let Some(claim) = &observed.claim else {
        return create(observed, verdict);
    };
    if !belongs(claim.as_ref(), sandbox) || is_ending(&claim.metadata) {
        return ClaimStep::Keep;
    }
    let reclaim = workspace::reclaim_patch(sandbox, claim);
    let resize = workspace::resize_patch(sandbox, claim).filter(|_| !resize_was_refused(sandbox));
    if reclaim.is_none() && resize.is_none() {
        return ClaimStep::Keep;
    }
    ClaimStep::Adjust { reclaim, resize }
}

/// Creates the claim. A lost claim is replaced only together with the pod, never below an
/// existing pod.
fn create(observed: &Observed, verdict: &Verdict) -> ClaimStep {
    let sandbox = &observed.sandbox;
    let status = sandbox.status.as_ref();
    let lost = status.is_some_and(|status| status.claim_name.is_some());
    let wanted = !lost || (*verdict == Verdict::Running && observed.pod.is_none());
    match workspace::claim(sandbox) {
        Some(claim) if wanted => ClaimStep::Create {
            claim: Box::new(claim),
            lost,
        },
        _ => ClaimStep::Keep,
    }
}

/// True if the storage class refused to grow the claim to the size in the present spec. The
/// controller tries again when the spec changes.
pub fn resize_was_refused(sandbox: &Sandbox) -> bool {
    let conditions = sandbox.status.as_ref().map(|status| &status.conditions);
    conditions
        .and_then(|all| conditions::find(all, conditions::WORKSPACE_READY))
        .is_some_and(|condition| {
            condition.reason == Reason::ResizeRefused
                && condition.observed_generation == sandbox.metadata.generation
        })
}
