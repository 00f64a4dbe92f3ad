//! The decision about the pod. The first rule of [`Plan::decide_pod`] that applies wins.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use super::{Plan, PodStep, Removal, Verdict, signed};
use crate::context::PodSettings;
use crate::sandbox::desired::placement::{self, ClusterNodes};
use crate::sandbox::desired::{belongs, pod as desired_pod};
use crate::sandbox::observe::Observed;
use crate::sandbox::problem::Problem;
use crate::sandbox::{diagnosis, mounts, nudge, outdated, volumes};
use hutch_api::{Sandbox, annotations};
use hutch_core::objects::node_name;
use hutch_core::reasons::Reason;
use hutch_core::{conditions, deadlines};

/// A pod that still exists this long after its grace period is stuck.
const STUCK_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// Time between two checks if the S3 credentials that a service refused were corrected.
const KEY_CHECK_PERIOD: SignedDuration = SignedDuration::from_secs(5);

impl Plan {
    pub(super) fn decide_pod(
        &mut self,
        observed: &Observed,
        settings: &PodSettings,
        now: Timestamp,
    ) {
        let sandbox = &observed.sandbox;
        let Some(pod) = &observed.pod else {
            self.create_if_wanted(observed, settings, now);
            return;
        };
        if !belongs(pod.as_ref(), sandbox) {
            self.block(diagnosis::conflict(pod, sandbox));
        } else if let Some(deleted) = &pod.metadata.deletion_timestamp {
            self.wait_for_end(observed, pod, deleted.0, now);
        } else if matches!(self.verdict, Verdict::Suspended | Verdict::Asleep) {
            self.delete_unneeded(sandbox);
        } else if let Some(why) = diagnosis::end_of(pod) {
            self.replace_ended(observed, &why, now);
        } else if outdated::before_it_ran(sandbox, pod) {
            self.replace_unstarted();
        } else if outdated::restart_due(sandbox, pod) {
            self.restart();
        } else {
            self.keep(observed, pod, settings, now);
        }
    }

    /// Creates the pod, unless the sandbox needs none or an obstacle exists.
    fn create_if_wanted(&mut self, observed: &Observed, settings: &PodSettings, now: Timestamp) {
        if self.verdict != Verdict::Running {
            return;
        }
        if let Some(problem) = claim_problem(observed) {
            self.block(problem);
            return;
        }
        if let Some(wait) = observed.pod_backoff {
            self.requeue_after(now, signed(wait));
            self.verdict = Verdict::Unchanged;
            return;
        }
        if let Err(problem) = self.create(observed, settings) {
            self.block(problem);
        }
    }

    fn create(&mut self, observed: &Observed, settings: &PodSettings) -> Result<(), Problem> {
        let sandbox = &observed.sandbox;
        let nodes = ClusterNodes {
            nodes: &observed.nodes,
            drivers: &observed.drivers,
        };
        let runtime = observed.runtime.as_deref();
        let placement = placement::decide(&sandbox.spec, settings, runtime, nodes)?;
        self.volumes = volumes::wanted(observed, settings, placement.volumes)?;
        let pod = desired_pod::pod(sandbox, settings, placement, &self.volumes);
        self.pod = PodStep::Create(Box::new(pod));
        Ok(())
    }

    /// The pod is ending. If its node is gone, nothing will confirm the end, so the pod is
    /// removed without a grace period. If the node only does not answer, the pod may still
    /// run. A second pod must not start then.
    fn wait_for_end(&mut self, observed: &Observed, pod: &Pod, due: Timestamp, now: Timestamp) {
        if now.duration_since(due) < STUCK_AFTER {
            self.requeue_after(due, STUCK_AFTER);
            self.block(if was_awake(&observed.sandbox) {
                Problem::waiting(
                    Reason::PodLost,
                    "the pod is being deleted; a new one is made when it has ended",
                )
            } else {
                Problem::starting("the former pod is ending")
            });
        } else if observed.node_known {
            let node = node_name(pod).unwrap_or("(none)");
            self.block(Problem::failed(
                Reason::PodStuck,
                format!("node {node} does not confirm that the former pod has ended: bring the node back, delete it, or taint it node.kubernetes.io/out-of-service"),
            ));
        } else {
            self.pod = PodStep::Delete(Removal::NodeGone);
            self.block(Problem::waiting(
                Reason::PodLost,
                "the node of the former pod is gone",
            ));
        }
    }

    /// Deletes the pod of a sandbox that is asleep or suspended. If it only falls asleep now,
    /// the status is written first.
    fn delete_unneeded(&mut self, sandbox: &Sandbox) {
        if self.verdict == Verdict::Suspended || deadlines::is_asleep(sandbox) {
            self.pod = PodStep::Delete(Removal::NotNeeded);
        }
    }

    /// Replaces a pod that has ended for good. A backoff limits the rate.
    fn replace_ended(&mut self, observed: &Observed, why: &str, now: Timestamp) {
        match observed.pod_backoff {
            Some(wait) => self.requeue_after(now, signed(wait)),
            None => self.pod = PodStep::Delete(Removal::Ended),
        }
        self.block(Problem::waiting(
            Reason::PodLost,
            format!("the pod has ended ({why}); a new one is made"),
        ));
    }

    /// Replaces a pod that has not run yet and does not match the spec any more.
    fn replace_unstarted(&mut self) {
        self.pod = PodStep::Delete(Removal::NeverRan);
        self.block(Problem::starting(
            "the pod is replaced by one of the changed spec",
        ));
    }

    fn restart(&mut self) {
        self.pod = PodStep::Delete(Removal::Restart);
        self.block(Problem::starting(
            "the pod is replaced to apply the spec's changes",
        ));
    }

    /// Keeps the pod. At most its annotations and the volumes of its buckets change.
    fn keep(&mut self, observed: &Observed, pod: &Pod, settings: &PodSettings, now: Timestamp) {
        self.pod = project_step(&observed.sandbox, pod);
        if let Some((due, patch)) = nudge::nudge(observed, pod) {
            if due > now {
                self.requeue(due);
            } else if self.pod == PodStep::Keep {
                self.pod = PodStep::Annotate(patch);
            }
        }
        self.watch_start(pod, now);
        self.restore_volumes(observed, pod, settings, now);
        self.wait_for_mounts(observed, pod, now);
    }

    /// Plans the next reconcile for the time when a pod that does not run yet is reported
    /// as unschedulable or slow.
    fn watch_start(&mut self, pod: &Pod, now: Timestamp) {
        let ages = [diagnosis::UNSCHEDULABLE_AFTER, diagnosis::SLOW_AFTER];
        let next = ages
            .into_iter()
            .find(|age| diagnosis::is_younger(pod, *age, now));
        let created = pod.metadata.creation_timestamp.as_ref();
        if let (Some(created), Some(age), Some(_)) = (created, next, diagnosis::pod(pod, now)) {
            self.requeue_after(created.0, age);
        }
    }

    /// Creates volumes again that the pod waits for and that are lost.
    fn restore_volumes(
        &mut self,
        observed: &Observed,
        pod: &Pod,
        settings: &PodSettings,
        now: Timestamp,
    ) {
        self.volumes = volumes::lost(observed, pod, settings);
        if !self.volumes.is_empty() {
            // No watch reports a change of a Secret.
            self.requeue_after(now, KEY_CHECK_PERIOD);
        }
    }

    /// Waits for a mount that has just begun, before the status reports it.
    fn wait_for_mounts(&mut self, observed: &Observed, pod: &Pod, now: Timestamp) {
        let Some(grace) = mounts::grace_period(
            &observed.sandbox,
            pod,
            observed.mount_support,
            observed.spec_changed_at,
            now,
        ) else {
            return;
        };
        self.requeue(grace.until);
        if grace.was_ready && self.verdict == Verdict::Running {
            self.verdict = Verdict::Unchanged;
        }
    }
}

/// The reason why no pod can be created on the present claim.
fn claim_problem(observed: &Observed) -> Option<Problem> {
    let claim = observed.claim.as_ref()?;
    if belongs(claim.as_ref(), &observed.sandbox) {
        diagnosis::claim(claim)
    } else {
        Some(Problem::name_taken("claim", &claim.name_any()))
    }
}

/// True if the status says that the sandbox runs, or that its pod was lost. If its pod ends
/// then, the controller was not the one that deleted it.
fn was_awake(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().is_some_and(|status| {
        let ready = conditions::find(&status.conditions, conditions::READY);
        status.phase.answers() || ready.is_some_and(|ready| ready.reason == Reason::PodLost)
    })
}

/// Writes the project's ID on the pod.
fn project_step(sandbox: &Sandbox, pod: &Pod) -> PodStep {
    let wanted = sandbox.spec.project.as_ref().map(|project| &project.id);
    if pod.annotations().get(annotations::PROJECT) == wanted {
        return PodStep::Keep;
    }
    PodStep::Annotate(json!({
        "metadata": { "annotations": { (annotations::PROJECT): wanted } }
    }))
}
