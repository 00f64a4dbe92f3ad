//! What the status says: a pure function of what is there, the plan's verdict and
//! the time; and whether it is worth a write.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::desired::{belongs, workspace};
use super::diagnosis;
use super::mounts::{self, Mounter, been_ready};
use super::outdated::{changed_fields, dropped};
use super::plan::{Verdict, refused_before};
use super::problem::Problem;
use hutch_api::{
    CONTAINER, Persistence, Phase, Sandbox, SandboxStatus, SecurityProfile, annotations,
};
use hutch_core::buckets::reasons::{MOUNTING, SPEC_CHANGED};
use hutch_core::conditions::{
    AGENT_READY, BUCKETS_READY, DATABASE_SYNCED, POD_READY, READY, RESTART_PENDING,
    WORKSPACE_READY, carry_over, condition, find,
};

/// What a status is made from.
pub struct StatusInput<'a> {
    /// The sandbox, with its present status.
    pub sandbox: &'a Sandbox,
    /// Its pod, after the plan was carried out.
    pub pod: Option<&'a Pod>,
    /// Its claim, after the plan was carried out.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The plan's verdict, or what happened when it was carried out.
    pub verdict: &'a Verdict,
    /// Who mounts buckets on the pod's node.
    pub mounter: Mounter,
    /// Since when the sandbox sleeps.
    pub slept_at: Option<Time>,
    /// Why the claim was not allowed to grow.
    pub resize_refused: Option<&'a str>,
}

/// The status as it should be. `lastActivity` and `traceparent` are the facade's,
/// `projectId` and `DatabaseSynced` are the projector's: they are left out.
pub fn status(input: &StatusInput, now: Timestamp) -> SandboxStatus {
    let sandbox = input.sandbox;
    let old = sandbox.status.as_ref();
    let kept = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let pod = input.pod.filter(|pod| belongs(*pod, sandbox));
    let workspace = workspace_state(input);
    let run = run_state(input, pod, kept, now);
    let buckets = buckets_state(input, pod, &run, now);
    let conditions = conditions(input, pod, &[&workspace, &run], buckets.as_ref(), now);
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    SandboxStatus {
        phase: phase(input, pod, [&workspace, &run], buckets.as_ref()),
        conditions: carry_over(kept, conditions),
        observed_generation: sandbox.metadata.generation,
        pod_name: pod.map(ResourceExt::name_any),
        pod_uid: pod.and_then(ResourceExt::uid),
        node: spec.and_then(|spec| spec.node_name.clone()),
        image: spec
            .and_then(|spec| spec.containers.iter().find(|c| c.name == CONTAINER))
            .and_then(|container| container.image.clone()),
        security_profile: spec.map(|spec| match spec.host_users {
            Some(false) => SecurityProfile::Root,
            _ => SecurityProfile::Restricted,
        }),
        claim_name: match input.claim {
            Some(claim) => Some(claim.name_any()),
            // Once made it stays named, so that its loss is noticed.
            None => old.and_then(|old| old.claim_name.clone()),
        },
        started_at: pod.filter(|_| run.holds).and_then(diagnosis::started_at),
        slept_at: input.slept_at.clone(),
        // The other entries are the node's.
        buckets: match pod.filter(|_| run.holds) {
            Some(pod) => mounts::entries(sandbox, pod, input.mounter, now),
            None => Vec::new(),
        },
        last_activity: None,
        traceparent: None,
        project_id: None,
    }
}

fn phase(
    input: &StatusInput,
    pod: Option<&Pod>,
    [workspace, run]: [&State; 2],
    buckets: Option<&State>,
) -> Phase {
    let missing = buckets.filter(|buckets| !buckets.holds);
    match input.verdict {
        Verdict::Terminating => Phase::Terminating,
        Verdict::Suspended | Verdict::Idle => Phase::Suspended,
        _ if run.holds && workspace.holds => match missing {
            None => Phase::Ready,
            Some(_) if pod.is_some_and(|pod| been_ready(input.sandbox, pod)) => Phase::Degraded,
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
    [workspace, run]: &[&State; 2],
    buckets: Option<&State>,
    now: Timestamp,
) -> Vec<Condition> {
    let generation = input.sandbox.metadata.generation;
    let make = |kind, state: &State| {
        let (holds, message) = (Some(state.holds), state.message.as_str());
        condition(kind, holds, state.reason, message, generation, now)
    };
    let answers = State::new(true, "Ready", "the sandbox answers commands");
    let parts = [Some(*run), Some(*workspace), buckets];
    let missing = parts.into_iter().flatten().find(|state| !state.holds);
    let ready = missing.unwrap_or(&answers);
    let agent = match pod.filter(|_| run.holds).and_then(restarts) {
        Some(message) => &State::new(true, run.reason, &message),
        None => run,
    };
    let mut all = vec![
        make(READY, ready),
        make(WORKSPACE_READY, workspace),
        make(POD_READY, run),
        make(AGENT_READY, agent),
    ];
    all.extend(buckets.map(|buckets| make(BUCKETS_READY, buckets)));
    all.extend(restart_pending(input, pod, generation, now));
    all
}

/// How a part of the sandbox is doing.
struct State {
    holds: bool,
    failed: bool,
    reason: &'static str,
    message: String,
}

impl State {
    fn new(holds: bool, reason: &'static str, message: &str) -> Self {
        Self {
            holds,
            failed: false,
            reason,
            message: message.to_owned(),
        }
    }
}

impl From<Problem> for State {
    fn from(problem: Problem) -> Self {
        Self {
            failed: problem.failed,
            ..Self::new(false, problem.reason, &problem.message)
        }
    }
}

fn workspace_state(input: &StatusInput) -> State {
    if input.sandbox.spec.workspace.persistence == Persistence::Ephemeral {
        return ephemeral(input.sandbox);
    }
    let Some(claim) = input.claim.filter(|claim| belongs(*claim, input.sandbox)) else {
        let status = input.sandbox.status.as_ref();
        return match status.and_then(|status| status.claim_name.as_ref()) {
            Some(name) => State::new(
                false,
                "ClaimLost",
                &format!(
                    "claim {name} was deleted, and its data with it; the next start makes an empty one"
                ),
            ),
            None => State::new(false, "Provisioning", "the claim is not made yet"),
        };
    };
    if let Some(problem) = diagnosis::claim(claim) {
        return problem.into();
    }
    let name = claim.name_any();
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    // News of the claim may come later than those of the pod that has mounted it.
    let mounted = *input.verdict == Verdict::Running
        && input
            .pod
            .is_some_and(|pod| diagnosis::started_at(pod).is_some());
    if !bound && !mounted {
        let message = format!("claim {name} is not bound to a volume yet");
        return State::new(false, "Provisioning", &message);
    }
    match resize_refused(input, claim) {
        Some(message) => State::new(true, "ResizeRefused", &message),
        None => State::new(true, "Bound", &format!("claim {name} holds the workspace")),
    }
}

fn ephemeral(sandbox: &Sandbox) -> State {
    let spec = &sandbox.spec;
    let message = if spec.suspended || spec.lifecycle.idle_timeout.is_some() {
        "the workspace is lost whenever the pod goes, and this sandbox sleeps: use persistence Persistent to keep it"
    } else {
        "the workspace is lost whenever the pod goes"
    };
    State::new(true, "Ephemeral", message)
}

/// That the claim was not allowed to grow, now or when it was tried for this spec.
fn resize_refused(input: &StatusInput, claim: &PersistentVolumeClaim) -> Option<String> {
    if let Some(why) = input.resize_refused {
        let size = workspace::requested(claim).unwrap_or_default();
        let wanted = &input.sandbox.spec.workspace.size;
        return Some(format!(
            "the workspace stays at {size} and cannot grow to {wanted}: {why}"
        ));
    }
    workspace::resize_patch(input.sandbox, claim).filter(|_| refused_before(input.sandbox))?;
    let status = input.sandbox.status.as_ref()?;
    Some(find(&status.conditions, WORKSPACE_READY)?.message.clone())
}

/// What the pod does, or why there is none.
fn run_state(input: &StatusInput, pod: Option<&Pod>, old: &[Condition], now: Timestamp) -> State {
    let problem = match input.verdict {
        Verdict::Suspended => {
            let message = "spec.suspended is set: the pod goes, the workspace stays";
            return State::new(false, "Suspended", message);
        }
        Verdict::Idle => {
            let message = "nobody used the sandbox for its idleTimeout: the next request wakes it";
            return State::new(false, "Idle", message);
        }
        Verdict::Terminating => {
            return State::new(false, "Terminating", "the sandbox is being deleted");
        }
        Verdict::Blocked(problem) => Some(problem.clone()),
        Verdict::Running | Verdict::Unchanged => match pod {
            Some(pod) => diagnosis::pod(pod, now).map(|problem| match problem.reason {
                "Starting" | "StartingSlowly" if !diagnosis::has_run(pod) => {
                    mounts::before_start(input.sandbox, pod).unwrap_or(problem)
                }
                _ => problem,
            }),
            None => Some(Problem::starting("the pod is not made yet")),
        },
    };
    let Some(mut problem) = problem else {
        return State::new(true, "Running", "");
    };
    if problem.reason == "ImagePullFailed"
        && let Some(before) = find(old, READY)
        && before.reason == problem.reason
        && diagnosis::same_pull_failure(&before.message, &problem.message)
    {
        problem.message.clone_from(&before.message);
    }
    problem.into()
}

/// How the buckets are doing, where the spec has any. Without a running pod that
/// is what the pod waits for, or why there is none.
fn buckets_state(
    input: &StatusInput,
    pod: Option<&Pod>,
    run: &State,
    now: Timestamp,
) -> Option<State> {
    let count = input.sandbox.spec.buckets.len();
    if count == 0 {
        return None;
    }
    Some(match pod.filter(|_| run.holds) {
        None => State {
            failed: run.failed,
            ..State::new(false, run.reason, &run.message)
        },
        Some(pod) => match mounts::problem(input.sandbox, pod, input.mounter, now) {
            Some(problem) => problem.into(),
            None => State::new(
                true,
                "Mounted",
                &format!("buckets that are mounted: {count}"),
            ),
        },
    })
}

/// What a person should know of a container that runs again.
fn restarts(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let last = status.last_state.as_ref()?.terminated.as_ref()?;
    let count = status.restart_count;
    Some(match last.reason.as_deref() {
        Some("OOMKilled") => format!("started again after it ran out of memory (restart {count})"),
        _ => format!(
            "started again after exit code {} (restart {count})",
            last.exit_code
        ),
    })
}

fn restart_pending(
    input: &StatusInput,
    pod: Option<&Pod>,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Condition> {
    let pod = pod.filter(|pod| {
        *input.verdict == Verdict::Running && pod.metadata.deletion_timestamp.is_none()
    })?;
    let mut changed: Vec<_> = changed_fields(input.sandbox, pod)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !input.mounter.present {
        let stays = |name| format!("bucket {name}, which stays mounted");
        changed.extend(dropped(input.sandbox, pod).into_iter().map(stays));
    }
    (!changed.is_empty()).then(|| {
        condition(
            RESTART_PENDING,
            Some(true),
            "SpecChanged",
            format!(
                "changed since the pod was made: {}; applied at its next start, or now if the annotation {} is set to a new value",
                changed.join(", "),
                annotations::RESTART
            ),
            generation,
            now,
        )
    })
}

/// Whether `new` tells a user anything that the present status does not. The
/// steps of a normal start (bound, scheduled, created) are not worth a write:
/// what they add is told when the pod is ready or takes too long.
pub fn worth_writing(input: &StatusInput, new: &SandboxStatus) -> bool {
    let Some(old) = &input.sandbox.status else {
        return true;
    };
    let mut same = SandboxStatus {
        buckets: mounts::written(input.sandbox),
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
        status.phase == Phase::Pending
            && find(&status.conditions, READY).is_some_and(|ready| ready.reason == "Starting")
    };
    let step = starting(old)
        && starting(new)
        && old.observed_generation == new.observed_generation
        && old.pod_uid == new.pod_uid
        && old.slept_at == new.slept_at
        && old.claim_name == new.claim_name;
    !step
}

/// The event that a change of the Ready condition's reason deserves: whether it
/// is a warning, its reason and its note.
pub fn event<'a>(
    old: Option<&SandboxStatus>,
    new: &'a SandboxStatus,
) -> Option<(bool, &'a str, &'a str)> {
    let now = find(&new.conditions, READY)?;
    let before = old.and_then(|old| find(&old.conditions, READY));
    if before.is_some_and(|before| before.reason == now.reason) {
        return None;
    }
    match now.reason.as_str() {
        "Ready" | "Starting" | "Terminating" | "Provisioning" | MOUNTING | SPEC_CHANGED => None,
        "Suspended" | "Idle" => Some((false, &now.reason, &now.message)),
        _ => Some((true, &now.reason, &now.message)),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
