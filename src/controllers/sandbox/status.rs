//! What the status says: a pure function of what is there, the plan's verdict and
//! the time; and whether it is worth a write.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::desired::{belongs, workspace};
use super::diagnosis;
use super::plan::{Verdict, changed_fields, refused_before};
use super::problem::Problem;
use crate::crd::{
    CONTAINER, Persistence, Phase, Sandbox, SandboxStatus, SecurityProfile, annotations,
};
use crate::domain::conditions::{
    AGENT_READY, POD_READY, READY, RESTART_PENDING, WORKSPACE_READY, carry_over, condition, find,
};

/// What a status is made from.
pub struct Seen<'a> {
    /// The sandbox, with its present status.
    pub sandbox: &'a Sandbox,
    /// Its pod, after the plan was carried out.
    pub pod: Option<&'a Pod>,
    /// Its claim, after the plan was carried out.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The plan's verdict, or what happened when it was carried out.
    pub verdict: &'a Verdict,
    /// Since when the sandbox sleeps.
    pub slept_at: Option<Time>,
    /// Why the claim was not allowed to grow.
    pub resize_refused: Option<&'a str>,
}

/// The status as it should be. `lastActivity` is the facade's and left out.
pub fn status(seen: &Seen, now: Timestamp) -> SandboxStatus {
    let sandbox = seen.sandbox;
    let generation = sandbox.metadata.generation;
    let old = sandbox.status.as_ref();
    let kept = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let pod = seen.pod.filter(|pod| belongs(*pod, sandbox));
    let workspace = workspace_state(seen);
    let (reason, message, problem) = run_state(seen, pod, kept, now);
    let make = |kind, holds: bool, reason: &str, message: &str| {
        condition(kind, Some(holds), reason, message, generation, now)
    };
    let runs = problem.is_none() && reason == "Running";
    let agent = pod.filter(|_| runs).and_then(restarts);
    let mut conditions = Vec::with_capacity(5);
    let ready = runs && workspace.holds;
    conditions.push(match (runs, workspace.holds) {
        (true, true) => make(READY, true, "Ready", "the sandbox answers commands"),
        (true, false) => make(READY, false, workspace.reason, &workspace.message),
        (false, _) => make(READY, false, reason, &message),
    });
    conditions.push(make(
        WORKSPACE_READY,
        workspace.holds,
        workspace.reason,
        &workspace.message,
    ));
    conditions.push(make(POD_READY, runs, reason, &message));
    let agent = agent.as_deref().unwrap_or(&message);
    conditions.push(make(AGENT_READY, runs, reason, agent));
    conditions.extend(restart_pending(seen, pod, generation, now));

    let failed = problem.as_ref().is_some_and(|problem| problem.failed)
        || (runs && !workspace.holds && workspace.failed);
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    SandboxStatus {
        phase: match seen.verdict {
            Verdict::Terminating => Phase::Terminating,
            Verdict::Suspended | Verdict::Idle => Phase::Suspended,
            _ if ready => Phase::Ready,
            _ if failed => Phase::Failed,
            _ => Phase::Pending,
        },
        conditions: carry_over(kept, conditions),
        observed_generation: generation,
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
        claim_name: match seen.claim {
            Some(claim) => Some(claim.name_any()),
            // Once made it stays named, so that its loss is noticed.
            None => old.and_then(|old| old.claim_name.clone()),
        },
        started_at: pod.filter(|_| runs).and_then(started_at),
        slept_at: seen.slept_at.clone(),
        last_activity: None,
    }
}

struct Workspace {
    holds: bool,
    failed: bool,
    reason: &'static str,
    message: String,
}

fn workspace_state(seen: &Seen) -> Workspace {
    let state = |holds, reason, message: &str| Workspace {
        holds,
        failed: false,
        reason,
        message: message.to_owned(),
    };
    let spec = &seen.sandbox.spec;
    if spec.workspace.persistence == Persistence::Ephemeral {
        let sleeps = spec.suspended || spec.lifecycle.idle_timeout.is_some();
        return state(
            true,
            "Ephemeral",
            if sleeps {
                "the workspace is lost whenever the pod goes, and this sandbox sleeps: use persistence Persistent to keep it"
            } else {
                "the workspace is lost whenever the pod goes"
            },
        );
    }
    let Some(claim) = seen.claim.filter(|claim| belongs(*claim, seen.sandbox)) else {
        let known = seen
            .sandbox
            .status
            .as_ref()
            .and_then(|s| s.claim_name.as_ref());
        return match known {
            Some(name) => state(
                false,
                "ClaimLost",
                &format!(
                    "claim {name} was deleted, and its data with it; the next start makes an empty one"
                ),
            ),
            None => state(false, "Provisioning", "the claim is not made yet"),
        };
    };
    if let Some(problem) = diagnosis::claim(claim) {
        return Workspace {
            failed: problem.failed,
            ..state(false, problem.reason, &problem.message)
        };
    }
    let name = claim.name_any();
    let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let mounted =
        *seen.verdict == Verdict::Running && seen.pod.is_some_and(|pod| started_at(pod).is_some());
    if !bound && !mounted {
        return state(
            false,
            "Provisioning",
            &format!("claim {name} is not bound to a volume yet"),
        );
    }
    let size = workspace::requested(claim).unwrap_or_default();
    if let Some(why) = seen.resize_refused {
        let wanted = &spec.workspace.size;
        let message = format!("the workspace stays at {size} and cannot grow to {wanted}: {why}");
        return state(true, "ResizeRefused", &message);
    }
    if workspace::resize_patch(seen.sandbox, claim).is_some() && refused_before(seen.sandbox) {
        let conditions = seen
            .sandbox
            .status
            .as_ref()
            .map(|s| s.conditions.as_slice());
        let before = conditions.and_then(|all| find(all, WORKSPACE_READY));
        let message = before.map(|before| before.message.clone());
        return state(true, "ResizeRefused", &message.unwrap_or_default());
    }
    state(true, "Bound", &format!("claim {name} holds the workspace"))
}

/// Reason and message of what the pod does, and what is wrong with it.
fn run_state(
    seen: &Seen,
    pod: Option<&Pod>,
    old: &[Condition],
    now: Timestamp,
) -> (&'static str, String, Option<Problem>) {
    let told = |reason, message: &str| (reason, message.to_owned(), None);
    let problem = match seen.verdict {
        Verdict::Suspended => {
            return told(
                "Suspended",
                "spec.suspended is set: the pod goes, the workspace stays",
            );
        }
        Verdict::Idle => {
            return told(
                "Idle",
                "nobody used the sandbox for its idleTimeout: the next request wakes it",
            );
        }
        Verdict::Terminating => return told("Terminating", "the sandbox is being deleted"),
        Verdict::Blocked(problem) => Some(problem.clone()),
        Verdict::Running | Verdict::Unchanged => match pod {
            Some(pod) => diagnosis::pod(pod, now),
            None => Some(Problem::starting("the pod is not made yet")),
        },
    };
    let Some(mut problem) = problem else {
        return told("Running", "");
    };
    if problem.reason == "ImagePullFailed"
        && let Some(before) = find(old, READY)
        && before.reason == problem.reason
        && diagnosis::same_pull_failure(&before.message, &problem.message)
    {
        problem.message.clone_from(&before.message);
    }
    (problem.reason, problem.message.clone(), Some(problem))
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

fn started_at(pod: &Pod) -> Option<Time> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.running.as_ref()?.started_at.clone()
}

fn restart_pending(
    seen: &Seen,
    pod: Option<&Pod>,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<Condition> {
    let pod = pod.filter(|pod| {
        *seen.verdict == Verdict::Running && pod.metadata.deletion_timestamp.is_none()
    })?;
    let changed = changed_fields(seen.sandbox, pod);
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

/// Whether `new` tells a user anything that the present status does not. Steps
/// of a normal start are not worth a write while the pod is young.
pub fn worth_writing(seen: &Seen, new: &SandboxStatus, now: Timestamp) -> bool {
    let Some(old) = &seen.sandbox.status else {
        return true;
    };
    let same = SandboxStatus {
        last_activity: None,
        ..old.clone()
    };
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
    let young = |pod| diagnosis::younger(pod, diagnosis::YOUNG, now);
    !(step && seen.pod.is_some_and(young))
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
        "Ready" | "Starting" | "Terminating" | "Provisioning" => None,
        "Suspended" | "Idle" => Some((false, &now.reason, &now.message)),
        _ => Some((true, &now.reason, &now.message)),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
