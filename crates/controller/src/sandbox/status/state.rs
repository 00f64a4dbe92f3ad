//! The state of each part of a sandbox: workspace, pod and buckets.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::StatusInput;
use crate::sandbox::desired::{belongs, workspace};
use crate::sandbox::plan::{Verdict, resize_was_refused};
use crate::sandbox::problem::Problem;
use crate::sandbox::{diagnosis, mounts};
use hutch_api::{Persistence, Sandbox};
use hutch_core::conditions::{READY, WORKSPACE_READY, find};
use hutch_core::objects::is_bound;
use hutch_core::reasons::Reason;

/// The state of a part of the sandbox.
pub struct State {
    /// True if the part works.
    pub holds: bool,
    /// True if somebody has to change something.
    pub failed: bool,
    pub reason: Reason,
    pub message: String,
}

impl State {
    /// A part that works.
    pub fn good(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            holds: true,
            ..Self::missing(reason, message)
        }
    }

    /// A part that does not work yet, or no longer.
    fn missing(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            failed: false,
            reason,
            message: message.into(),
        }
    }
}

impl From<Problem> for State {
    fn from(problem: Problem) -> Self {
        Self {
            failed: problem.failed,
            ..Self::missing(problem.reason, problem.message)
        }
    }
}

/// The state of the workspace.
pub fn workspace_state(input: &StatusInput) -> State {
    if input.sandbox.spec.workspace.persistence == Persistence::Ephemeral {
        return ephemeral(input.sandbox);
    }
    let Some(claim) = input.claim.filter(|claim| belongs(*claim, input.sandbox)) else {
        return without_claim(input.sandbox);
    };
    if let Some(problem) = diagnosis::claim(claim) {
        return problem.into();
    }
    let name = claim.name_any();
    if !is_bound(claim) && !is_mounted(input) {
        let message = format!("claim {name} is not bound to a volume yet");
        return State::missing(Reason::Provisioning, message);
    }
    match resize_refused(input, claim) {
        Some(message) => State::good(Reason::ResizeRefused, message),
        None => State::good(Reason::Bound, format!("claim {name} holds the workspace")),
    }
}

/// True if the pod runs, so its claim is bound. The event of the pod may arrive before that
/// of the claim.
fn is_mounted(input: &StatusInput) -> bool {
    let started = input.pod.and_then(diagnosis::started_at);
    *input.verdict == Verdict::Running && started.is_some()
}

fn without_claim(sandbox: &Sandbox) -> State {
    let status = sandbox.status.as_ref();
    match status.and_then(|status| status.claim_name.as_ref()) {
        Some(name) => State::missing(
            Reason::ClaimLost,
            format!(
                "claim {name} was deleted, and its data with it; the next start makes an empty one"
            ),
        ),
        None => State::missing(Reason::Provisioning, "the claim is not made yet"),
    }
}

fn ephemeral(sandbox: &Sandbox) -> State {
    let spec = &sandbox.spec;
    let message = if spec.suspended || spec.lifecycle.idle_timeout.is_some() {
        "the workspace is lost whenever the pod goes, and this sandbox sleeps: use persistence Persistent to keep it"
    } else {
        "the workspace is lost whenever the pod goes"
    };
    State::good(Reason::Ephemeral, message)
}

/// The message if the API server refused to grow the claim, in this reconcile or in an
/// earlier one for the same spec.
fn resize_refused(input: &StatusInput, claim: &PersistentVolumeClaim) -> Option<String> {
    let sandbox = input.sandbox;
    if let Some(why) = input.resize_refused {
        let size = workspace::requested(claim).unwrap_or_default();
        let wanted = &sandbox.spec.workspace.size;
        return Some(format!(
            "the workspace stays at {size} and cannot grow to {wanted}: {why}"
        ));
    }
    workspace::resize_patch(sandbox, claim).filter(|_| resize_was_refused(sandbox))?;
    let status = sandbox.status.as_ref()?;
    Some(find(&status.conditions, WORKSPACE_READY)?.message.clone())
}

/// The state of the pod. `old` are the present conditions.
pub fn run_state(
    input: &StatusInput,
    pod: Option<&Pod>,
    old: &[Condition],
    now: Timestamp,
) -> State {
    let problem = match input.verdict {
        Verdict::Suspended => {
            let message = "spec.suspended is set: the pod goes, the workspace stays";
            return State::missing(Reason::Suspended, message);
        }
        Verdict::Asleep => {
            let message = "nobody used the sandbox for its idleTimeout: the next request wakes it";
            return State::missing(Reason::Asleep, message);
        }
        Verdict::Terminating => {
            return State::missing(Reason::Terminating, "the sandbox is being deleted");
        }
        Verdict::Blocked(problem) => Some(problem.clone()),
        Verdict::Running | Verdict::Unchanged => match pod {
            Some(pod) => pod_problem(input.sandbox, pod, now),
            None => Some(Problem::starting("the pod is not made yet")),
        },
    };
    match problem {
        Some(problem) => keep_pull_failure(problem, old).into(),
        None => State::good(Reason::Running, ""),
    }
}

/// The reason why the pod is not ready. A volume that cannot be mounted explains a pod that
/// does not start.
fn pod_problem(sandbox: &Sandbox, pod: &Pod, now: Timestamp) -> Option<Problem> {
    let problem = diagnosis::pod(pod, now)?;
    let starts = matches!(problem.reason, Reason::Starting | Reason::StartingSlowly);
    if starts && !diagnosis::has_run(pod) {
        return Some(mounts::start_problem(sandbox, pod).unwrap_or(problem));
    }
    Some(problem)
}

/// Keeps the message of a failed pull while its cause is the same: the kubelet words each
/// attempt differently, and each difference would be a write.
fn keep_pull_failure(mut problem: Problem, old: &[Condition]) -> Problem {
    if problem.reason == Reason::ImagePullFailed
        && let Some(before) = find(old, READY)
        && before.reason == problem.reason
        && diagnosis::same_pull_failure(&before.message, &problem.message)
    {
        problem.message.clone_from(&before.message);
    }
    problem
}

/// The state of the buckets; `None` if the spec has none. Without a running pod it is the
/// state of the pod.
pub fn buckets_state(
    input: &StatusInput,
    pod: Option<&Pod>,
    run: &State,
    now: Timestamp,
) -> Option<State> {
    let count = input.sandbox.spec.buckets.len();
    if count == 0 {
        return None;
    }
    let Some(pod) = pod.filter(|_| run.holds) else {
        return Some(State {
            failed: run.failed,
            ..State::missing(run.reason, run.message.clone())
        });
    };
    let problem = mounts::problem(input.sandbox, pod, input.mount_support, now);
    Some(problem.map_or_else(
        || {
            State::good(
                Reason::Mounted,
                format!("buckets that are mounted: {count}"),
            )
        },
        State::from,
    ))
}

/// The message for a container that runs again after it has ended.
pub fn restarts(pod: &Pod) -> Option<String> {
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
