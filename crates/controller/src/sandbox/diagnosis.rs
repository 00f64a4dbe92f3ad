//! The reason why a pod or a claim is not ready. The messages tell a person what to do, and
//! do not change from one attempt of the kubelet to the next. Pure.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
    PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::problem::Problem;
use hutch_api::Sandbox;
use hutch_core::objects::{has_ended, is_ending, is_lost, node_name};
use hutch_core::reasons::Reason;

/// A younger pod is not reported as unschedulable. The scheduler calls every pod
/// unschedulable whose claim is not bound yet, and if a hundred pods start at once, that
/// takes a while.
pub const UNSCHEDULABLE_AFTER: SignedDuration = SignedDuration::from_secs(20);
/// A pod that has been starting for this long is reported as slow.
pub const SLOW_AFTER: SignedDuration = SignedDuration::from_secs(120);

/// The reason why the pod is not ready; `None` if it is ready.
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

/// The reason why the container does not run; `None` if it runs or is just starting.
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
            | "SignatureValidationFailed" => Some(pull_failure(status, message)),
            "CrashLoopBackOff" => Some(crashed(status)),
            // Failures of runtime classes, user namespaces and volumes appear here, such
            // as runc's "failed to set MOUNT_ATTR_IDMAP".
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

/// One reason and one text for all states of a failed pull. The kubelet alternates between
/// the error and the wait after it.
fn pull_failure(status: &ContainerStatus, message: &str) -> Problem {
    let name = &status.image;
    let mut cause = message.trim();
    if let Some((_, rest)) = cause.split_once("Back-off pulling image \"") {
        cause = rest.split_once('"').map_or("", |(_, rest)| rest);
    }
    let cause = cause.trim_start_matches([':', ' ']);
    let cause = cause.strip_prefix("ErrImagePull:").unwrap_or(cause).trim();
    Problem::failed(
        Reason::ImagePullFailed,
        match cause {
            "" => format!("image {name} cannot be pulled"),
            cause => format!("image {name} cannot be pulled: {cause}"),
        },
    )
}

/// True if both messages are about the same image and the same cause. Numbers (ports, times,
/// request IDs) do not count, and a new message without a cause equals every old one.
pub fn same_pull_failure(old: &str, new: &str) -> bool {
    let bare = |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_digit()).collect() };
    old.starts_with(new) || bare(old) == bare(new)
}

fn crashed(status: &ContainerStatus) -> Problem {
    let ended = |state: Option<&ContainerState>| state.and_then(|s| s.terminated.clone());
    let Some(ended) = ended(status.state.as_ref()).or_else(|| ended(status.last_state.as_ref()))
    else {
        return Problem::failed(Reason::CrashLoop, "the container ends again and again");
    };
    match ended.reason.as_deref() {
        Some("OOMKilled") => Problem::failed(
            Reason::OOMKilled,
            "the sandbox ran out of memory and is started again: raise spec.resources.limits.memory",
        ),
        Some("StartError" | "ContainerCannotRun") => {
            cannot_start("StartError", ended.message.as_deref().unwrap_or_default())
        }
        _ => Problem::failed(Reason::AgentExited, exited(&ended)),
    }
}

/// The message about an agent that has exited. Its termination message says more than its
/// exit code.
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
        Reason::ContainerCannotStart,
        format!("{reason}: {}{advice}", message.trim()),
    )
}

fn unschedulable(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let scheduled = pod_condition(pod, "PodScheduled")?;
    if scheduled.status != "False" || is_younger(pod, UNSCHEDULABLE_AFTER, now) {
        return None;
    }
    let message = scheduled.message.clone().unwrap_or_default();
    Some(Problem::waiting(Reason::Unschedulable, message))
}

fn slow(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let namespace = pod.namespace().unwrap_or_default();
    (!is_younger(pod, SLOW_AFTER, now)).then(|| {
        Problem::waiting(
            Reason::StartingSlowly,
            format!(
                "the pod has been starting for more than two minutes (pulling an image, attaching a volume): kubectl describe pod -n {namespace} {} tells what it is at",
                pod.name_any()
            ),
        )
    })
}

/// The problem of a pod whose container runs although the pod is not ready.
fn not_ready(pod: &Pod, ready: &PodCondition) -> Problem {
    if ready.reason.as_deref() == Some("ContainersNotReady") {
        return Problem::starting("the pod is starting");
    }
    let node = node_name(pod).unwrap_or("(none)");
    Problem::waiting(Reason::NodeNotReady, format!("node {node} does not answer"))
}

/// The pod's condition of that type.
pub fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// True if the pod was created less than `age` ago.
pub fn is_younger(pod: &Pod, age: SignedDuration, now: Timestamp) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref();
    created.is_none_or(|created| now.duration_since(created.0) < age)
}

/// The time when the sandbox's container started, if it runs.
pub fn started_at(pod: &Pod) -> Option<Time> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.running.as_ref()?.started_at.clone()
}

/// True if the sandbox's container runs or has ever run.
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

/// The reason why the pod has ended (evicted, preempted, shut down with its node); `None` if
/// it has not ended.
pub fn end_of(pod: &Pod) -> Option<String> {
    if !has_ended(pod) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref()?;
    let reason = status.reason.as_deref().unwrap_or(phase);
    Some(match status.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    })
}

/// The problem if a pod of the right name does not belong to the sandbox. Hutch never adopts
/// it.
pub fn conflict(pod: &Pod, sandbox: &Sandbox) -> Problem {
    let name = sandbox.name_any();
    let of_predecessor = pod
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "Sandbox" && owner.name == name);
    if of_predecessor {
        return Problem::starting("the pod of a deleted sandbox of this name is still ending");
    }
    Problem::failed(
        Reason::NameConflict,
        format!(
            "there is a pod {name} that belongs to something else: remove it, or give the sandbox another name"
        ),
    )
}

/// The problem of a claim that cannot hold the workspace.
pub fn claim(claim: &PersistentVolumeClaim) -> Option<Problem> {
    let name = claim.name_any();
    if is_ending(&claim.metadata) {
        return Some(Problem::failed(
            Reason::ClaimTerminating,
            format!(
                "claim {name} is being deleted and goes with its data when no pod uses it any more; copy what you need, then suspend the sandbox or delete it"
            ),
        ));
    }
    is_lost(claim).then(|| {
        Problem::failed(
            Reason::ClaimLost,
            format!("the volume of claim {name} is gone, and its data with it; delete the claim to begin with an empty workspace"),
        )
    })
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
