//! Why a pod or a claim is not ready, in words that a person can act on and that
//! do not change from one attempt of the kubelet to the next.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
    PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::problem::Problem;
use hutch_api::Sandbox;

/// A pod younger than this is not said to be unschedulable: the scheduler says so
/// of every pod whose claim is not bound yet, and when a hundred start at once
/// that takes a while.
pub const UNSCHEDULABLE_AFTER: SignedDuration = SignedDuration::from_secs(20);
/// A pod that starts for longer is said to take long.
pub const SLOW_AFTER: SignedDuration = SignedDuration::from_secs(120);

/// What keeps the pod from being ready; `None` where it is.
pub fn pod(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let status = pod.status.as_ref();
    let main = status.and_then(|s| s.container_statuses.as_ref()?.first());
    let init = status.and_then(|s| s.init_container_statuses.as_ref()?.first());
    let running = main.and_then(|main| main.state.as_ref()?.running.as_ref());
    if let (Some(main), Some(_)) = (main, running)
        && main.ready
    {
        return match pod_condition(pod, "Ready") {
            Some(ready) if ready.status == "True" => None,
            Some(ready) => Some(not_ready(pod, ready)),
            None => Some(Problem::starting("the pod is starting")),
        };
    }
    [init, main]
        .into_iter()
        .flatten()
        .find_map(stopped)
        .or_else(|| unschedulable(pod, now))
        .or_else(|| slow(pod, now))
        .or_else(|| Some(Problem::starting("the pod is starting")))
}

/// Why the container does not run, beyond that it is starting.
fn stopped(status: &ContainerStatus) -> Option<Problem> {
    let state = status.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let message = waiting.message.as_deref().unwrap_or_default();
        return match waiting.reason.as_deref()? {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "RegistryUnavailable"
            | "ImageInspectError"
            | "SignatureValidationFailed" => Some(image(status, message)),
            "CrashLoopBackOff" => Some(crashed(status)),
            // Runtime classes, user namespaces and volumes fail here, such as
            // runc's "failed to set MOUNT_ATTR_IDMAP".
            reason @ ("CreateContainerError"
            | "CreateContainerConfigError"
            | "RunContainerError"
            | "StartError"
            | "PreStartHookError"
            | "PostStartHookError") => Some(cannot_start(reason, message)),
            _ => None,
        };
    }
    let ended = state.terminated.as_ref()?;
    let installed = ended.exit_code == 0 && status.name != hutch_api::CONTAINER;
    (!installed).then(|| Problem {
        failed: false,
        ..crashed(status)
    })
}

/// One reason and one text for all that pulling can say: the kubelet alternates
/// between the error and the waiting after it.
fn image(status: &ContainerStatus, message: &str) -> Problem {
    let name = &status.image;
    let mut cause = message.trim();
    if let Some((_, rest)) = cause.split_once("Back-off pulling image \"") {
        cause = rest.split_once('"').map_or("", |(_, rest)| rest);
    }
    let cause = cause.trim_start_matches([':', ' ']);
    let cause = cause.strip_prefix("ErrImagePull:").unwrap_or(cause).trim();
    Problem::failed(
        "ImagePullFailed",
        match cause {
            "" => format!("image {name} cannot be pulled"),
            cause => format!("image {name} cannot be pulled: {cause}"),
        },
    )
}

/// Whether both messages tell of the same image and the same cause; numbers
/// (ports, times, request ids) do not count, nor does a text without a cause.
pub fn same_pull_failure(old: &str, new: &str) -> bool {
    let bare = |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_digit()).collect() };
    old.starts_with(new) || bare(old) == bare(new)
}

fn crashed(status: &ContainerStatus) -> Problem {
    let ended = |state: Option<&ContainerState>| state.and_then(|s| s.terminated.clone());
    let Some(ended) = ended(status.state.as_ref()).or_else(|| ended(status.last_state.as_ref()))
    else {
        return Problem::failed("CrashLoop", "the container ends again and again");
    };
    match ended.reason.as_deref() {
        Some("OOMKilled") => Problem::failed(
            "OOMKilled",
            "the sandbox ran out of memory and is started again: raise spec.resources.limits.memory",
        ),
        Some("StartError" | "ContainerCannotRun") => {
            cannot_start("StartError", ended.message.as_deref().unwrap_or_default())
        }
        _ => Problem::failed("AgentExited", exited(&ended)),
    }
}

/// What the agent left in its termination message says more than its exit code.
fn exited(ended: &ContainerStateTerminated) -> String {
    let code = ended.exit_code;
    match ended.message.as_deref().map(str::trim) {
        Some(message) if !message.is_empty() => {
            format!("the agent ended with exit code {code}: {message}")
        }
        _ => format!("the agent ended with exit code {code} and is started again"),
    }
}

fn cannot_start(reason: &str, message: &str) -> Problem {
    let advice = if message.contains("MOUNT_ATTR_IDMAP") {
        " (a volume's file system cannot be used in a user namespace: use another storage class or securityProfile Restricted)"
    } else {
        ""
    };
    Problem::failed(
        "ContainerCannotStart",
        format!("{reason}: {}{advice}", message.trim()),
    )
}

fn unschedulable(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let scheduled = pod_condition(pod, "PodScheduled")?;
    if scheduled.status != "False" || younger(pod, UNSCHEDULABLE_AFTER, now) {
        return None;
    }
    let message = scheduled.message.clone().unwrap_or_default();
    Some(Problem::waiting("Unschedulable", message))
}

fn slow(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let namespace = pod.namespace().unwrap_or_default();
    (!younger(pod, SLOW_AFTER, now)).then(|| {
        Problem::waiting(
            "StartingSlowly",
            format!(
                "the pod has been starting for more than two minutes (pulling an image, attaching a volume): kubectl describe pod -n {namespace} {} tells what it is at",
                pod.name_any()
            ),
        )
    })
}

/// The container runs but the pod does not count as ready.
fn not_ready(pod: &Pod, ready: &PodCondition) -> Problem {
    let since = ready.reason.as_deref().unwrap_or_default();
    if since == "ContainersNotReady" {
        return Problem::starting("the pod is starting");
    }
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.as_deref());
    Problem::waiting(
        "NodeNotReady",
        format!("node {} does not answer", node.unwrap_or("(none)")),
    )
}

/// The pod's condition of that type.
pub fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the pod was created less than `age` ago.
pub fn younger(pod: &Pod, age: SignedDuration, now: Timestamp) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref();
    created.is_none_or(|created| now.duration_since(created.0) < age)
}

/// Since when the sandbox's container runs, if it does.
pub fn started_at(pod: &Pod) -> Option<Time> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.running.as_ref()?.started_at.clone()
}

/// Whether the sandbox's container runs or has ever run.
pub fn has_run(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let main = status.and_then(|s| s.container_statuses.as_ref()?.first());
    let ran = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    main.is_some_and(|main| {
        main.restart_count > 0
            || main.state.as_ref().is_some_and(ran)
            || main.last_state.as_ref().is_some_and(ran)
    })
}

/// Whether the pod has ended and will not run again (evicted, preempted, shut
/// down with its node), and why.
pub fn ended(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref()?;
    if !matches!(phase, "Failed" | "Succeeded") {
        return None;
    }
    let reason = status.reason.as_deref().unwrap_or(phase);
    Some(match status.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    })
}

/// Another object has the pod's name. It is never adopted.
pub fn conflict(pod: &Pod, sandbox: &Sandbox) -> Problem {
    let name = sandbox.name_any();
    let predecessor = pod
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "Sandbox" && owner.name == name);
    if predecessor {
        return Problem::starting("the pod of a deleted sandbox of this name is still ending");
    }
    Problem::failed(
        "NameConflict",
        format!(
            "there is a pod {name} that belongs to something else: remove it, or give the sandbox another name"
        ),
    )
}

/// What is wrong with a claim that should hold a workspace.
pub fn claim(claim: &PersistentVolumeClaim) -> Option<Problem> {
    let name = claim.name_any();
    if claim.metadata.deletion_timestamp.is_some() {
        return Some(Problem::failed(
            "ClaimTerminating",
            format!(
                "claim {name} is being deleted and goes with its data when no pod uses it any more; copy what you need, then suspend the sandbox or delete it"
            ),
        ));
    }
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    (phase == Some("Lost")).then(|| {
        Problem::failed(
            "ClaimLost",
            format!("the volume of claim {name} is gone, and its data with it; delete the claim to begin with an empty workspace"),
        )
    })
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
