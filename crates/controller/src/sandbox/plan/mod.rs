//! The decision of a reconcile: a pure function of the observation, the settings and the
//! time. `claim` decides about the workspace's claim, `pod` about the pod.

mod claim;
mod pod;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub use self::claim::resize_was_refused;
use super::desired::buckets::BucketVolume;
use super::expectations::MAX_CACHE_LAG;
use super::observe::Observed;
use super::problem::Problem;
use super::volumes;
use crate::context::PodSettings;
use hutch_api::{Persistence, Sandbox};
use hutch_core::deadlines;
use hutch_core::objects::is_ending;

/// The writes of one reconcile, and the verdict for the status.
#[derive(Debug)]
pub struct Plan {
    /// True if the sandbox's time to live has passed. Then it is deleted, and nothing else
    /// happens.
    pub expire: bool,
    /// The write for the workspace's claim.
    pub claim: ClaimStep,
    /// Claims of buckets that the sandbox does not use any more.
    pub release: Vec<Arc<PersistentVolumeClaim>>,
    /// Buckets whose volumes must exist before the pod is created.
    pub volumes: Vec<BucketVolume>,
    /// The write for the pod. It follows the writes for the claims.
    pub pod: PodStep,
    /// The verdict for the status.
    pub verdict: Verdict,
    /// The status's `sleptAt`.
    pub slept_at: Option<Time>,
    /// The time of the next reconcile if nothing changes before.
    pub requeue_at: Option<Timestamp>,
}

/// The write for the workspace's claim.
#[derive(Debug, PartialEq)]
pub enum ClaimStep {
    Keep,
    Create {
        claim: Box<PersistentVolumeClaim>,
        /// True if the sandbox had a claim before. Its data is lost then, so the API
        /// server must confirm that the claim is gone.
        lost: bool,
    },
    Adjust {
        /// Patch of the owner and the label.
        reclaim: Option<Value>,
        /// Patch of the size.
        resize: Option<Value>,
    },
}

/// The write for the pod.
#[derive(Debug, PartialEq)]
pub enum PodStep {
    Keep,
    Create(Box<Pod>),
    Annotate(Value),
    Delete(Removal),
}

/// The reason why a pod is deleted.
#[derive(Debug, PartialEq, Eq)]
pub enum Removal {
    /// The sandbox is asleep or suspended, so it needs no pod.
    NotNeeded,
    /// The pod has ended and will not run again.
    Ended,
    /// A user asked for a restart, which applies the changes of the spec.
    Restart,
    /// The spec has changed, and no container of the pod has run yet.
    NeverRan,
    /// Its node does not exist any more, so nothing can confirm the pod's end.
    NodeGone,
}

/// The result of a plan, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pod exists or is created now. The status reports the pod's state.
    Running,
    /// There is no pod that can be used.
    Blocked(Problem),
    /// The spec suspends the sandbox.
    Suspended,
    /// The sandbox is asleep, because nobody used it.
    Asleep,
    /// The sandbox is being deleted.
    Terminating,
    /// The status stays as it is.
    Unchanged,
}

/// Decides about the writes of one reconcile.
pub fn plan(observed: &Observed, settings: &PodSettings, now: Timestamp) -> Plan {
    let sandbox = &observed.sandbox;
    let mut plan = Plan::empty();
    if is_ending(&sandbox.metadata) {
        plan.verdict = Verdict::Terminating;
        return plan;
    }
    let expires = deadlines::expires_at(sandbox);
    if expires.is_some_and(|at| at <= now) {
        plan.expire = true;
        return plan;
    }
    plan.requeue_at = expires;
    if observed.cache_lags {
        plan.requeue_after(now, signed(MAX_CACHE_LAG));
    }
    plan.decide_sleep(sandbox, now);
    if sandbox.spec.workspace.persistence == Persistence::Persistent {
        plan.claim = claim::decide(observed, &plan.verdict);
    }
    plan.release = volumes::unused(observed, &settings.buckets);
    plan.decide_pod(observed, settings, now);
    plan
}

impl Plan {
    const fn empty() -> Self {
        Self {
            expire: false,
            claim: ClaimStep::Keep,
            release: Vec::new(),
            volumes: Vec::new(),
            pod: PodStep::Keep,
            verdict: Verdict::Running,
            slept_at: None,
            requeue_at: None,
        }
    }

    /// Decides if the sandbox is asleep or suspended. It falls asleep in two steps, so that a crash
    /// between them loses nothing: the first plan writes `sleptAt` into the status. The
    /// event of that write starts a second plan, which deletes the pod.
    fn decide_sleep(&mut self, sandbox: &Sandbox, now: Timestamp) {
        if sandbox.spec.suspended {
            self.verdict = Verdict::Suspended;
        } else if deadlines::is_asleep(sandbox) {
            self.verdict = Verdict::Asleep;
            self.slept_at = sandbox.status.as_ref().and_then(|s| s.slept_at.clone());
        } else if let Some(at) = deadlines::sleeps_at(sandbox) {
            if at <= now {
                self.verdict = Verdict::Asleep;
                self.slept_at = Some(Time(now));
            } else {
                self.requeue(at);
            }
        }
    }

    /// Plans a reconcile at that time, unless there is one before.
    fn requeue(&mut self, at: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(at, |sooner| sooner.min(at)));
    }

    fn requeue_after(&mut self, from: Timestamp, after: SignedDuration) {
        if let Ok(at) = from.checked_add(after) {
            self.requeue(at);
        }
    }

    /// Reports `problem`, unless the sandbox needs no pod or has another problem.
    fn block(&mut self, problem: Problem) {
        if self.verdict == Verdict::Running {
            self.verdict = Verdict::Blocked(problem);
        }
    }
}

fn signed(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or_default()
}

#[cfg(test)]
mod claim_tests;
#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
