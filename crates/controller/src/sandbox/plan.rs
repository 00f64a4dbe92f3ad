//! What is to be done for a sandbox: a pure function of what was observed, the
//! settings and the time.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::desired::buckets::BucketVolume;
use super::desired::placement::{self, Known};
use super::desired::{belongs, pod, workspace};
use super::observe::Observed;
use super::problem::Problem;
use super::{diagnosis, expectations, mounts, nudge, outdated, volumes};
use crate::context::PodSettings;
use hutch_api::{Persistence, Sandbox, annotations};
use hutch_core::{conditions, deadlines};

/// A pod that should be gone for this long is looked into.
const STUCK_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// How often it is looked whether refused keys were corrected.
const KEY_CHECK_PERIOD: SignedDuration = SignedDuration::from_secs(5);

/// What is to be done, and what the status is to say.
#[derive(Debug)]
pub struct Plan {
    /// The sandbox has outlived its time: delete it, and nothing else.
    pub expire: bool,
    /// About the claim.
    pub claim: ClaimStep,
    /// Claims of buckets that the sandbox has no use for any more.
    pub release: Vec<Arc<PersistentVolumeClaim>>,
    /// Buckets whose volumes have to be there before the pod.
    pub volumes: Vec<BucketVolume>,
    /// About the pod; after the claims.
    pub pod: PodStep,
    /// What the status is to say.
    pub verdict: Verdict,
    /// The status's `sleptAt`.
    pub slept_at: Option<Time>,
    /// When to look again though nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// What is to be done about the claim.
#[derive(Debug, PartialEq)]
pub enum ClaimStep {
    /// Nothing.
    Keep,
    /// Make it.
    Create {
        /// The claim.
        claim: Box<PersistentVolumeClaim>,
        /// Whether there was one before: then its data are gone, and that it is
        /// really gone has to be made sure of.
        lost: bool,
    },
    /// Change it.
    Adjust {
        /// Owner and label.
        reclaim: Option<Value>,
        /// Size.
        resize: Option<Value>,
    },
}

/// What is to be done about the pod.
#[derive(Debug, PartialEq)]
pub enum PodStep {
    /// Nothing.
    Keep,
    /// Make it.
    Create(Box<Pod>),
    /// Change its annotations.
    Annotate(Value),
    /// Delete it.
    Delete(Removal),
}

/// Why a pod is to be deleted.
#[derive(Debug, PartialEq, Eq)]
pub enum Removal {
    /// The sandbox sleeps.
    Sleep,
    /// It has ended and will not run again.
    Ended,
    /// The spec's changes are to be applied now.
    Restart,
    /// The spec has changed and nothing of the pod has run yet.
    NeverRan,
    /// Its node does not exist any more, so that nobody can confirm its end.
    NodeGone,
}

/// What the status is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is a pod: how it is doing.
    Running,
    /// There is none, or no good one.
    Blocked(Problem),
    /// The spec wants no pod.
    Suspended,
    /// Nobody used it.
    Idle,
    /// The sandbox is being deleted.
    Terminating,
    /// What it says already.
    Unchanged,
}

/// Decides what is to be done.
pub fn plan(observed: &Observed, settings: &PodSettings, now: Timestamp) -> Plan {
    let sandbox = &observed.sandbox;
    let mut plan = Plan {
        expire: false,
        claim: ClaimStep::Keep,
        release: Vec::new(),
        volumes: Vec::new(),
        pod: PodStep::Keep,
        verdict: Verdict::Running,
        slept_at: None,
        wake_at: None,
    };
    if sandbox.metadata.deletion_timestamp.is_some() {
        plan.verdict = Verdict::Terminating;
        return plan;
    }
    let expires = deadlines::expires_at(sandbox);
    if expires.is_some_and(|at| at <= now) {
        plan.expire = true;
        return plan;
    }
    plan.wake_at = expires;
    if observed.lagging {
        plan.requeue_after(
            now,
            SignedDuration::try_from(expectations::MAX_CACHE_LAG).unwrap_or_default(),
        );
    }
    decide_sleep(&mut plan, sandbox, now);
    if sandbox.spec.workspace.persistence == Persistence::Persistent {
        plan.claim = claim_step(observed, &plan.verdict);
    }
    plan.release = volumes::unused(observed, &settings.buckets);
    pod_step(&mut plan, observed, settings, now);
    plan
}

impl Plan {
    fn requeue_after(&mut self, from: Timestamp, after: SignedDuration) {
        if let Ok(at) = from.checked_add(after) {
            self.wake_at = Some(self.wake_at.map_or(at, |sooner| sooner.min(at)));
        }
    }

    fn block(&mut self, problem: Problem) {
        if self.verdict == Verdict::Running {
            self.verdict = Verdict::Blocked(problem);
        }
    }
}

/// Whether the sandbox rests. It falls asleep in two steps, so that a crash
/// between them loses nothing: the status says so, and only then, on the event
/// of that write, the pod goes.
fn decide_sleep(plan: &mut Plan, sandbox: &Sandbox, now: Timestamp) {
    if sandbox.spec.suspended {
        plan.verdict = Verdict::Suspended;
    } else if deadlines::is_asleep(sandbox) {
        plan.verdict = Verdict::Idle;
        plan.slept_at = sandbox.status.as_ref().and_then(|s| s.slept_at.clone());
    } else if let Some(at) = deadlines::sleeps_at(sandbox) {
        if at <= now {
            plan.verdict = Verdict::Idle;
            plan.slept_at = Some(Time(now));
        } else {
            plan.requeue_after(at, SignedDuration::ZERO);
        }
    }
}

fn claim_step(observed: &Observed, verdict: &Verdict) -> ClaimStep {
    let sandbox = &observed.sandbox;
    let status = sandbox.status.as_ref();
    let Some(claim) = &observed.claim else {
        let lost = status.is_some_and(|status| status.claim_name.is_some());
        // A lost claim is made anew when a pod is to be made, and not under one.
        let wanted = !lost || (*verdict == Verdict::Running && observed.pod.is_none());
        return match workspace::claim(sandbox) {
            Some(claim) if wanted => ClaimStep::Create {
                claim: Box::new(claim),
                lost,
            },
            _ => ClaimStep::Keep,
        };
    };
    if !belongs(claim.as_ref(), sandbox) || claim.metadata.deletion_timestamp.is_some() {
        return ClaimStep::Keep;
    }
    let reclaim = workspace::reclaim_patch(sandbox, claim);
    let resize = workspace::resize_patch(sandbox, claim).filter(|_| !refused_before(sandbox));
    if reclaim.is_none() && resize.is_none() {
        return ClaimStep::Keep;
    }
    ClaimStep::Adjust { reclaim, resize }
}

/// Whether the storage class refused to grow the claim to what the present spec
/// asks for: it is asked again when the spec changes.
pub fn refused_before(sandbox: &Sandbox) -> bool {
    let conditions = sandbox.status.as_ref().map(|status| &status.conditions);
    conditions
        .and_then(|all| conditions::find(all, conditions::WORKSPACE_READY))
        .is_some_and(|condition| {
            condition.reason == "ResizeRefused"
                && condition.observed_generation == sandbox.metadata.generation
        })
}

fn pod_step(plan: &mut Plan, observed: &Observed, settings: &PodSettings, now: Timestamp) {
    let Some(pod) = &observed.pod else {
        if plan.verdict == Verdict::Running {
            create_pod(plan, observed, settings, now);
        }
        return;
    };
    if !belongs(pod.as_ref(), &observed.sandbox) {
        plan.block(diagnosis::conflict(pod, &observed.sandbox));
    } else if let Some(deleted) = &pod.metadata.deletion_timestamp {
        await_end(plan, observed, pod, deleted.0, now);
    } else if matches!(plan.verdict, Verdict::Suspended | Verdict::Idle) {
        // Just falling asleep: first the status, then the pod.
        if plan.verdict == Verdict::Suspended || deadlines::is_asleep(&observed.sandbox) {
            plan.pod = PodStep::Delete(Removal::Sleep);
        }
    } else if let Some(why) = diagnosis::ended(pod) {
        replace_ended(plan, observed, &why, now);
    } else if outdated::before_it_ran(&observed.sandbox, pod) {
        plan.pod = PodStep::Delete(Removal::NeverRan);
        plan.block(Problem::starting(
            "the pod is replaced by one of the changed spec",
        ));
    } else if outdated::restart_due(&observed.sandbox, pod) {
        plan.pod = PodStep::Delete(Removal::Restart);
        plan.block(Problem::starting(
            "the pod is replaced to apply the spec's changes",
        ));
    } else {
        plan.pod = project_step(&observed.sandbox, pod);
        if let Some((due, patch)) = nudge::nudge(observed, pod) {
            if due > now {
                plan.requeue_after(due, SignedDuration::ZERO);
            } else if plan.pod == PodStep::Keep {
                plan.pod = PodStep::Annotate(patch);
            }
        }
        let made = pod.metadata.creation_timestamp.as_ref();
        let ages = [diagnosis::UNSCHEDULABLE_AFTER, diagnosis::SLOW_AFTER];
        let next = ages
            .into_iter()
            .find(|age| diagnosis::younger(pod, *age, now));
        if let (Some(made), Some(age), Some(_)) = (made, next, diagnosis::pod(pod, now)) {
            plan.requeue_after(made.0, age);
        }
        plan_buckets(plan, observed, pod, settings, now);
    }
}

/// About the buckets of a pod that stays: volumes that it still waits for and that
/// got lost, and a mount that has just begun.
fn plan_buckets(
    plan: &mut Plan,
    observed: &Observed,
    pod: &Pod,
    settings: &PodSettings,
    now: Timestamp,
) {
    let sandbox = &observed.sandbox;
    plan.volumes = volumes::lost(observed, pod, settings);
    if !plan.volumes.is_empty() {
        // Nobody tells when a Secret changes.
        plan.requeue_after(now, KEY_CHECK_PERIOD);
    }
    let grace = mounts::grace_period(
        sandbox,
        pod,
        observed.mounter,
        observed.spec_changed_at,
        now,
    );
    if let Some((until, quiet)) = grace {
        plan.requeue_after(until, SignedDuration::ZERO);
        if quiet && plan.verdict == Verdict::Running {
            plan.verdict = Verdict::Unchanged;
        }
    }
}

/// Makes the pod, unless something stands in the way.
fn create_pod(plan: &mut Plan, observed: &Observed, settings: &PodSettings, now: Timestamp) {
    let sandbox = &observed.sandbox;
    if let Some(claim) = &observed.claim {
        if !belongs(claim.as_ref(), sandbox) {
            let name = claim.name_any();
            plan.block(Problem::failed(
                "NameConflict",
                format!("claim {name} belongs to something else: remove it"),
            ));
            return;
        }
        if let Some(problem) = diagnosis::claim(claim) {
            plan.block(problem);
            return;
        }
    }
    if let Some(wait) = observed.pod_backoff {
        plan.requeue_after(now, SignedDuration::try_from(wait).unwrap_or_default());
        plan.verdict = Verdict::Unchanged;
        return;
    }
    match placement::decide(
        &sandbox.spec,
        settings,
        observed.runtime.as_deref(),
        Known {
            nodes: &observed.nodes,
            drivers: &observed.drivers,
        },
    ) {
        Ok(placement) => match volumes::wanted(observed, settings, placement.volumes) {
            Ok(volumes) => {
                let pod = pod::pod(sandbox, settings, placement, &volumes);
                (plan.pod, plan.volumes) = (PodStep::Create(Box::new(pod)), volumes);
            }
            Err(problem) => plan.block(problem),
        },
        Err(problem) => plan.block(problem),
    }
}

/// The pod is ending. Where its node is gone nobody will say when it has ended;
/// where the node only does not answer, it may still run, and a second one must
/// not.
fn await_end(plan: &mut Plan, observed: &Observed, pod: &Pod, due: Timestamp, now: Timestamp) {
    if now.duration_since(due) < STUCK_AFTER {
        plan.requeue_after(due, STUCK_AFTER);
        plan.block(if was_awake(&observed.sandbox) {
            Problem::waiting(
                "PodLost",
                "the pod is being deleted; a new one is made when it has ended",
            )
        } else {
            Problem::starting("the former pod is ending")
        });
    } else if observed.node_known {
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref());
        let node = node.unwrap_or("(none)");
        plan.block(Problem::failed(
            "PodStuck",
            format!("node {node} does not confirm that the former pod has ended: bring the node back, delete it, or taint it node.kubernetes.io/out-of-service"),
        ));
    } else {
        plan.pod = PodStep::Delete(Removal::NodeGone);
        plan.block(Problem::waiting(
            "PodLost",
            "the node of the former pod is gone",
        ));
    }
}

/// The pod has ended for good: a new one, but not in a storm.
fn replace_ended(plan: &mut Plan, observed: &Observed, why: &str, now: Timestamp) {
    if let Some(wait) = observed.pod_backoff {
        plan.requeue_after(now, SignedDuration::try_from(wait).unwrap_or_default());
    } else {
        plan.pod = PodStep::Delete(Removal::Ended);
    }
    plan.block(Problem::waiting(
        "PodLost",
        format!("the pod has ended ({why}); a new one is made"),
    ));
}

/// Whether the status says that the sandbox runs, or that its pod was lost: then
/// a pod that ends does not do so at our word.
fn was_awake(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().is_some_and(|status| {
        let ready = conditions::find(&status.conditions, conditions::READY);
        status.phase.answers() || ready.is_some_and(|ready| ready.reason == "PodLost")
    })
}

fn project_step(sandbox: &Sandbox, pod: &Pod) -> PodStep {
    let wanted = sandbox.spec.project.as_ref().map(|project| &project.id);
    if pod.annotations().get(annotations::PROJECT) == wanted {
        return PodStep::Keep;
    }
    PodStep::Annotate(json!({
        "metadata": { "annotations": { (annotations::PROJECT): wanted } }
    }))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
