//! Carries a plan out: the claims before the pod, because the scheduler puts a pod
//! aside whose claim it does not find; neither waits for the other to be bound.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::desired::belongs;
use super::desired::buckets::BucketVolume;
use super::diagnosis;
use super::observe::{Observed, attempt};
use super::plan::{ClaimStep, Plan, PodStep, Removal, Verdict};
use super::problem::Problem;
use super::provide;
use crate::context::Context;
use hutch_api::Sandbox;
use hutch_kube::apply::Error;

/// What is there after the plan, and what the status is to say.
pub struct Applied {
    /// Whether the sandbox was deleted: there is no status to write.
    pub expired: bool,
    /// The pod.
    pub pod: Option<Arc<Pod>>,
    /// The claim.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The plan's verdict, or what stood in its way.
    pub verdict: Verdict,
    /// Since when the sandbox sleeps.
    pub slept_at: Option<Time>,
    /// Why the claim was not allowed to grow.
    pub resize_refused: Option<String>,
    /// When to look again though nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// Carries out `plan`. What the API server refuses becomes part of the status;
/// an error means that the outcome is not known or that it may work next time.
pub async fn apply(ctx: &Context, observed: &Observed, plan: Plan) -> Result<Applied, Error> {
    let Plan {
        expire,
        claim,
        release,
        volumes,
        pod,
        verdict,
        slept_at,
        wake_at,
    } = plan;
    let mut applied = Applied {
        expired: expire,
        pod: observed.pod.clone(),
        claim: observed.claim.clone(),
        verdict,
        slept_at,
        resize_refused: None,
        wake_at,
    };
    if expire {
        expire_now(ctx, &observed.sandbox).await?;
        return Ok(applied);
    }
    apply_claim(ctx, observed, claim, &mut applied).await?;
    for claim in &release {
        provide::release(ctx, &observed.sandbox, claim).await?;
    }
    provide_all(ctx, &observed.sandbox, &volumes, &mut applied).await?;
    match pod {
        PodStep::Keep => {}
        PodStep::Create(_) if matches!(applied.verdict, Verdict::Blocked(_)) => {}
        PodStep::Create(pod) => create_pod(ctx, &observed.sandbox, &pod, &mut applied).await?,
        PodStep::Annotate(patch) => {
            if let Some(pod) = &observed.pod {
                ctx.writer.merge(pod.as_ref(), patch).await?;
            }
        }
        PodStep::Delete(removal) => {
            if let Some(pod) = &observed.pod {
                remove_pod(ctx, &observed.sandbox, pod, removal).await?;
            }
        }
    }
    Ok(applied)
}

/// The volumes of buckets, up to the first that cannot be had.
async fn provide_all(
    ctx: &Context,
    sandbox: &Sandbox,
    volumes: &[BucketVolume],
    applied: &mut Applied,
) -> Result<(), Error> {
    for volume in volumes {
        if matches!(applied.verdict, Verdict::Blocked(_)) {
            break;
        }
        match provide::provide(ctx, sandbox, volume).await {
            Ok(None) => {}
            Ok(Some(problem)) => block(ctx, sandbox, problem, applied)?,
            Err(error) if error.refused() => record_refusal(ctx, sandbox, &error, applied)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn expire_now(ctx: &Context, sandbox: &Sandbox) -> Result<(), Error> {
    confirm(ctx, sandbox).await?;
    let ttl = sandbox.spec.lifecycle.ttl.as_deref().unwrap_or_default();
    let note = format!("deleted because its ttl of {ttl} has passed");
    ctx.events.normal(sandbox, "Expired", &note).await;
    ctx.writer.delete_unchanged(sandbox).await.map(drop)
}

/// Makes sure that the sandbox is what the decision rested on: a cache lags.
async fn confirm(ctx: &Context, seen: &Sandbox) -> Result<(), Error> {
    let namespace = seen.namespace().unwrap_or_default();
    let live: Option<Sandbox> = ctx.writer.read(&namespace, &seen.name_any()).await?;
    let same = live.is_some_and(|live| {
        live.uid() == seen.uid() && live.resource_version() == seen.resource_version()
    });
    if same {
        Ok(())
    } else {
        Err(Error::Stale("the sandbox".to_owned()))
    }
}

async fn apply_claim(
    ctx: &Context,
    observed: &Observed,
    step: ClaimStep,
    applied: &mut Applied,
) -> Result<(), Error> {
    match step {
        ClaimStep::Keep => Ok(()),
        ClaimStep::Create { claim, lost } => {
            create_claim(ctx, &observed.sandbox, &claim, lost, applied).await
        }
        ClaimStep::Adjust { reclaim, resize } => {
            let Some(claim) = &observed.claim else {
                return Ok(());
            };
            adjust_claim(ctx, claim, [reclaim, resize], applied).await
        }
    }
}

/// Changes the claim's owner and its size, one after the other, as the second
/// may be refused.
async fn adjust_claim(
    ctx: &Context,
    claim: &Arc<PersistentVolumeClaim>,
    [reclaim, resize]: [Option<Value>; 2],
    applied: &mut Applied,
) -> Result<(), Error> {
    let mut claim = Arc::clone(claim);
    if let Some(patch) = reclaim {
        claim = Arc::new(ctx.writer.merge(claim.as_ref(), patch).await?);
    }
    if let Some(patch) = resize {
        match ctx.writer.merge(claim.as_ref(), patch).await {
            Ok(changed) => claim = Arc::new(changed),
            Err(error) if error.refused() => applied.resize_refused = Some(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    applied.claim = Some(claim);
    Ok(())
}

async fn create_claim(
    ctx: &Context,
    sandbox: &Sandbox,
    claim: &PersistentVolumeClaim,
    lost: bool,
    applied: &mut Applied,
) -> Result<(), Error> {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    // A cache that lags shows no claim either: ask the API server before the report.
    let made = if lost {
        ctx.writer.read(&namespace, &name).await?
    } else {
        None
    };
    let made = match made {
        Some(made) => made,
        None => match ctx.writer.create(claim).await {
            Ok(made) => {
                if lost {
                    let note = format!(
                        "claim {name} was gone, and its data with it; the workspace begins empty"
                    );
                    ctx.events.warning(sandbox, "WorkspaceLost", &note).await;
                }
                made
            }
            Err(Error::AlreadyExists(_)) => read_existing(ctx, &namespace, &name).await?,
            Err(error) if error.refused() => return record_refusal(ctx, sandbox, &error, applied),
            Err(error) => return Err(error),
        },
    };
    if !belongs(&made, sandbox) {
        let message = format!("claim {name} belongs to something else: remove it");
        return block(
            ctx,
            sandbox,
            Problem::failed("NameConflict", message),
            applied,
        );
    }
    let made = Arc::new(made);
    ctx.expectations
        .claims
        .record(&sandbox.uid().unwrap_or_default(), Arc::clone(&made));
    applied.claim = Some(made);
    Ok(())
}

async fn create_pod(
    ctx: &Context,
    sandbox: &Sandbox,
    pod: &Pod,
    applied: &mut Applied,
) -> Result<(), Error> {
    let made = match ctx.writer.create(pod).await {
        Ok(made) => {
            report_lost_pod(ctx, sandbox).await;
            made
        }
        Err(Error::AlreadyExists(_)) => {
            let namespace = pod.namespace().unwrap_or_default();
            read_existing(ctx, &namespace, &pod.name_any()).await?
        }
        Err(error) if error.refused() => return record_refusal(ctx, sandbox, &error, applied),
        Err(error) => return Err(error),
    };
    if !belongs(&made, sandbox) {
        return block(ctx, sandbox, diagnosis::conflict(&made, sandbox), applied);
    }
    let made = Arc::new(made);
    ctx.expectations
        .pods
        .record(&sandbox.uid().unwrap_or_default(), Arc::clone(&made));
    applied.pod = Some(made);
    Ok(())
}

/// A new pod for a sandbox that was awake means that the former one went without
/// our doing.
async fn report_lost_pod(ctx: &Context, sandbox: &Sandbox) {
    let status = sandbox.status.as_ref();
    if let Some(status) = status.filter(|status| status.phase.answers())
        && let Some(name) = &status.pod_name
    {
        let note = format!("pod {name} was deleted; a new one is made with the same workspace");
        ctx.events.warning(sandbox, "PodLost", &note).await;
    }
}

/// What has the name already.
async fn read_existing<K: hutch_kube::apply::Writable>(
    ctx: &Context,
    namespace: &str,
    name: &str,
) -> Result<K, Error> {
    let object = ctx.writer.read(namespace, name).await?;
    object.ok_or_else(|| Error::Stale(name.to_owned()))
}

fn record_refusal(
    ctx: &Context,
    sandbox: &Sandbox,
    error: &Error,
    applied: &mut Applied,
) -> Result<(), Error> {
    let problem = Problem {
        // Quotas are freed by others and webhooks come back; everything else
        // needs somebody.
        failed: !matches!(
            error,
            Error::QuotaExceeded(_) | Error::WebhookUnavailable(_)
        ),
        ..Problem::waiting(error.kind(), error.to_string())
    };
    block(ctx, sandbox, problem, applied)
}

/// No pod for now: the status says why, and it is tried again ever more rarely.
fn block(
    ctx: &Context,
    sandbox: &Sandbox,
    problem: Problem,
    applied: &mut Applied,
) -> Result<(), Error> {
    let wait = ctx.replacements.failed(&attempt(sandbox));
    let wait = k8s_openapi::jiff::SignedDuration::try_from(wait).unwrap_or_default();
    let again = Timestamp::now().checked_add(wait).ok();
    applied.wake_at = applied.wake_at.into_iter().chain(again).min();
    applied.verdict = Verdict::Blocked(problem);
    Ok(())
}

async fn remove_pod(
    ctx: &Context,
    sandbox: &Sandbox,
    pod: &Pod,
    removal: Removal,
) -> Result<(), Error> {
    let left = match removal {
        Removal::Sleep => {
            confirm(ctx, sandbox).await?;
            ctx.writer.delete(pod).await?
        }
        Removal::Restart => {
            let note = "the pod is replaced to apply the spec's changes";
            ctx.events.normal(sandbox, "Restarting", note).await;
            ctx.writer.delete(pod).await?
        }
        // Not where it has started meanwhile.
        Removal::NeverRan => ctx.writer.delete_unchanged(pod).await?,
        Removal::Ended => {
            ctx.replacements.failed(&attempt(sandbox));
            ctx.writer.delete_unchanged(pod).await?
        }
        Removal::NodeGone => {
            let spec = pod.spec.as_ref();
            let node = spec.and_then(|spec| spec.node_name.as_deref());
            if ctx.writer.node_exists(node.unwrap_or_default()).await? {
                return Err(Error::Stale("the pod's node".to_owned()));
            }
            ctx.writer.delete_unchanged_now(pod).await?
        }
    };
    if let Some(ending) = left {
        let uid = sandbox.uid().unwrap_or_default();
        ctx.expectations.pods.record(&uid, Arc::new(ending));
    }
    Ok(())
}
