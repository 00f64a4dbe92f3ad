//! The status of a sandbox and its events: pure functions of the observation, the verdict
//! and the time. `state` has the state of each part.

mod state;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use self::state::{State, buckets_state, restarts, run_state, workspace_state};
use super::desired::belongs;
use super::diagnosis;
use super::mounts::{self, MountSupport, was_ready};
use super::outdated::{changed_fields, removed_buckets};
use super::plan::Verdict;
use hutch_api::{CONTAINER, Phase, Sandbox, SandboxStatus, SecurityProfile, annotations};
use hutch_core::conditions::{
    AGENT_READY, BUCKETS_READY, DATABASE_SYNCED, POD_READY, READY, RESTART_PENDING,
    WORKSPACE_READY, carry_over, condition, find,
};
use hutch_core::objects::{is_ending, node_name};
use hutch_core::reasons::Reason;
use hutch_kube::events::EventType;

/// The facts that a status is made from.
pub struct StatusInput<'a> {
    /// The sandbox, with its present status.
    pub sandbox: &'a Sandbox,
    /// Its pod, after the plan was executed.
    pub pod: Option<&'a Pod>,
    /// Its claim, after the plan was executed.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The plan's verdict, or the problem that a write had.
    pub verdict: &'a Verdict,
    /// The programs that mount buckets on the pod's node.
    pub mount_support: MountSupport,
    /// The time when the sandbox fell asleep.
    pub slept_at: Option<Time>,
    /// The API server's message if the claim may not grow.
    pub resize_refused: Option<&'a str>,
}

/// The fields of the status that the controller owns. It leaves out `lastActivity` and
/// `traceparent`, which the facade owns, and `projectId` and `DatabaseSynced`, which the
/// projector owns.
pub fn status(input: &StatusInput, now: Timestamp) -> SandboxStatus {
    let sandbox = input.sandbox;
    let old = sandbox.status.as_ref();
    let kept = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let pod = input.pod.filter(|pod| belongs(*pod, sandbox));
    let run = run_state(input, pod, kept, now);
    let parts = Parts {
        workspace: workspace_state(input),
        buckets: buckets_state(input, pod, &run, now),
        run,
    };
    let conditions = conditions(input, pod, &parts, now);
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    let runs = pod.filter(|_| parts.run.holds);
    SandboxStatus {
        phase: phase(input, pod, &parts),
        conditions: carry_over(kept, conditions),
        observed_generation: sandbox.metadata.generation,
        pod_name: pod.map(ResourceExt::name_any),
        pod_uid: pod.and_then(ResourceExt::uid),
        node: pod.and_then(node_name).map(str::to_owned),
        image: spec
            .and_then(|spec| spec.containers.iter().find(|c| c.name == CONTAINER))
            .and_then(|container| container.image.clone()),
        security_profile: spec.map(|spec| match spec.host_users {
            Some(false) => SecurityProfile::Root,
            _ => SecurityProfile::Restricted,
        }),
        claim_name: match input.claim {
            Some(claim) => Some(claim.name_any()),
            // The name stays, so that a loss of the claim is noticed.
            None => old.and_then(|old| old.claim_name.clone()),
        },
        started_at: runs.and_then(diagnosis::started_at),
        slept_at: input.slept_at.clone(),
        // `hutch-node` owns the other entries.
        buckets: runs.map_or_else(Vec::new, |pod| {
            mounts::own_entries(sandbox, pod, input.mount_support, now)
        }),
        last_activity: None,
        traceparent: None,
        project_id: None,
    }
}

/// The state of each part of a sandbox.
struct Parts {
    workspace: State,
    run: State,
    /// `None` if the spec has no buckets.
    buckets: Option<State>,
}

fn phase(input: &StatusInput, pod: Option<&Pod>, parts: &Parts) -> Phase {
    let Parts {
        workspace,
        run,
        buckets,
    } = parts;
    let missing = buckets.as_ref().filter(|buckets| !buckets.holds);
    match input.verdict {
        Verdict::Terminating => Phase::Terminating,
        Verdict::Suspended | Verdict::Asleep => Phase::Suspended,
        _ if run.holds && workspace.holds => match missing {
            None => Phase::Ready,
            Some(_) if pod.is_some_and(|pod| was_ready(input.sandbox, pod)) => Phase::Degraded,
            Some(buckets) if buckets.failed => Phase::Failed,
            Some(_) => Phase::Pending,
        },
        _ if run.failed || (run.holds && workspace.failed) => Phase::Failed,
        _ => Phase::Pending,
    }
}

fn conditions(
    input: &StatusInput,
    pod: Option<&Pod>,
    parts: &Parts,
    now: Timestamp,
) -> Vec<Condition> {
    let Parts {
        workspace,
        run,
        buckets,
    } = parts;
    let generation = input.sandbox.metadata.generation;
    let of_state = |kind, state: &State| {
        let (holds, reason) = (Some(state.holds), state.reason.as_str());
        condition(kind, holds, reason, &*state.message, generation, now)
    };
    let answers = State::good(Reason::Ready, "the sandbox answers commands");
    let in_order = [Some(run), Some(workspace), buckets.as_ref()];
    let missing = in_order.into_iter().flatten().find(|state| !state.holds);
    let agent = match pod.filter(|_| run.holds).and_then(restarts) {
        Some(message) => &State::good(run.reason, message),
        None => run,
    };
    let mut all = vec![
        of_state(READY, missing.unwrap_or(&answers)),
        of_state(WORKSPACE_READY, workspace),
        of_state(POD_READY, run),
        of_state(AGENT_READY, agent),
    ];
    let buckets = buckets.as_ref();
    all.extend(buckets.map(|buckets| of_state(BUCKETS_READY, buckets)));
    all.extend(restart_pending(input, pod, now));
    all
}

/// The condition that lists the changes of the spec that wait for the pod's next start.
fn restart_pending(input: &StatusInput, pod: Option<&Pod>, now: Timestamp) -> Option<Condition> {
    let pod = pod.filter(|pod| *input.verdict == Verdict::Running && !is_ending(&pod.metadata))?;
    let mut changed: Vec<_> = changed_fields(input.sandbox, pod)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !input.mount_support.node_component {
        let stays = |name| format!("bucket {name}, which stays mounted");
        changed.extend(removed_buckets(input.sandbox, pod).into_iter().map(stays));
    }
    if changed.is_empty() {
        return None;
    }
    let message = format!(
        "changed since the pod was made: {}; applied at its next start, or now if the annotation {} is set to a new value",
        changed.join(", "),
        annotations::RESTART
    );
    let (reason, generation) = (Reason::SpecChanged, input.sandbox.metadata.generation);
    Some(condition(
        RESTART_PENDING,
        Some(true),
        reason.as_str(),
        message,
        generation,
        now,
    ))
}

/// True if `new` contains news for a user. The steps of a normal start (bound, scheduled,
/// created) are not worth a write. The status reports their results when the pod is ready or
/// takes too long.
pub fn worth_writing(input: &StatusInput, new: &SandboxStatus) -> bool {
    let Some(old) = &input.sandbox.status else {
        return true;
    };
    let mut same = SandboxStatus {
        buckets: mounts::written_entries(input.sandbox),
        last_activity: None,
        traceparent: None,
        project_id: None,
        ..old.clone()
    };
    same.conditions.retain(|it| it.type_ != DATABASE_SYNCED);
    if same == *new {
        return false;
    }
    let starting = |status: &SandboxStatus| {
        let ready = find(&status.conditions, READY);
        status.phase == Phase::Pending
            && ready.is_some_and(|ready| ready.reason == Reason::Starting)
    };
    let step = starting(old)
        && starting(new)
        && old.observed_generation == new.observed_generation
        && old.pod_uid == new.pod_uid
        && old.slept_at == new.slept_at
        && old.claim_name == new.claim_name;
    !step
}

/// An event about a sandbox.
#[derive(Debug, PartialEq, Eq)]
pub struct StatusEvent<'a> {
    /// Normal or Warning.
    pub kind: EventType,
    /// The reason of the condition Ready.
    pub reason: Reason,
    /// The message of that condition.
    pub note: &'a str,
}

/// The event for a change of the reason of the condition Ready. Steps of a normal start have
/// none.
pub fn event<'a>(old: Option<&SandboxStatus>, new: &'a SandboxStatus) -> Option<StatusEvent<'a>> {
    let now = find(&new.conditions, READY)?;
    let before = old.and_then(|old| find(&old.conditions, READY));
    if before.is_some_and(|before| before.reason == now.reason) {
        return None;
    }
    let reason = Reason::parse(&now.reason)?;
    let kind = match reason {
        Reason::Ready
        | Reason::Starting
        | Reason::Terminating
        | Reason::Provisioning
        | Reason::Mounting
        | Reason::SpecChanged => return None,
        Reason::Suspended | Reason::Asleep => EventType::Normal,
        _ => EventType::Warning,
    };
    Some(StatusEvent {
        kind,
        reason,
        note: &now.message,
    })
}

#[cfg(test)]
mod buckets_tests;
#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
