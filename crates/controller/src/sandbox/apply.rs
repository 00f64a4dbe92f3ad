//! Executes a plan. The claims come before the pod: the scheduler sets a pod aside if it does
//! not find the pod's claim. The pod does not wait until its claims are bound.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::Value;

use super::desired::belongs;
use super::desired::buckets::BucketVolume;
use super::diagnosis;
use super::observe::{Observed, attempt_key};
use super::plan::{ClaimStep, Plan, PodStep, Removal, Verdict};
use super::problem::Problem;
use super::provide;
use crate::context::Context;
use hutch_api::Sandbox;
use hutch_core::objects::node_name;
use hutch_core::reasons::Reason;
use hutch_kube::apply::{Error, Writable};

/// The state after the plan, for the status.
pub struct Applied {
    /// True if the sandbox was deleted, so there is no status to write.
    pub expired: bool,
    pub pod: Option<Arc<Pod>>,
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The plan's verdict, or the problem that a write had.
    pub verdict: Verdict,
    /// The status's `sleptAt`.
    pub slept_at: Option<Time>,
    /// The API server's message if the claim may not grow.
    pub resize_refused: Option<String>,
    /// The time of the next reconcile if nothing changes before.
    pub requeue_at: Option<Timestamp>,
}

/// Executes `plan`. A refusal of the API server becomes part of the status. An error means
/// that the outcome is unknown or that a retry may succeed.
pub async fn apply(ctx: &Context, observed: &Observed, plan: Plan) -> Result<Applied, Error> {
    let Plan {
        expire,
        claim,
        release,
        volumes,
        pod,
        verdict,
        slept_at,
        requeue_at,
    } = plan;
    let mut applied = Applied {
        expired: expire,
        pod: observed.pod.clone(),
        claim: observed.claim.clone(),
        verdict,
        slept_at,
        resize_refused: None,
        requeue_at,
    };
    let sandbox = &observed.sandbox;
    if expire {
        expire_now(ctx, sandbox).await?;
        return Ok(applied);
    }
    apply_claim(ctx, observed, claim, &mut applied).await?;
    for claim in &release {
        provide::release(ctx, sandbox, claim).await?;
    }
    provide_all(ctx, sandbox, &volumes, &mut applied).await?;
    apply_pod(ctx, observed, pod, &mut applied).await?;
    Ok(applied)
}

/// Creates the volumes of buckets, until one of them has a problem.
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
            Ok(Some(problem)) => block(ctx, sandbox, problem, applied),
            Err(error) => record_refusal(ctx, sandbox, error, applied)?,
        }
    }
    Ok(())
}

async fn expire_now(ctx: &Context, sandbox: &Sandbox) -> Result<(), Error> {
    confirm_unchanged(ctx, sandbox).await?;
    let ttl = sandbox.spec.lifecycle.ttl.as_deref().unwrap_or_default();
    let note = format!("deleted because its ttl of {ttl} has passed");
    ctx.events.normal(sandbox, Reason::Expired, &note).await;
    ctx.writer.delete_unchanged(sandbox).await.map(drop)
}

/// Confirms with the API server that the cached sandbox is current: a cache may lag.
async fn confirm_unchanged(ctx: &Context, cached: &Sandbox) -> Result<(), Error> {
    let namespace = cached.namespace().unwrap_or_default();
    let live: Option<Sandbox> = ctx.writer.read(&namespace, &cached.name_any()).await?;
    let same = live.is_some_and(|live| {
        live.uid() == cached.uid() && live.resource_version() == cached.resource_version()
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

/// Changes the claim's owner and its size in two writes, because the API server may refuse
/// the second one.
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
    let existing = if lost {
        ctx.writer.read(&namespace, &name).await?
    } else {
        None
    };
    let created = match existing {
        Some(existing) => Ok(Created::Existing(existing)),
        None => create_or_read(ctx, claim).await,
    };
    let claim = match created {
        Ok(Created::New(new)) => {
            if lost {
                report_lost_workspace(ctx, sandbox, &name).await;
            }
            new
        }
        Ok(Created::Existing(existing)) => existing,
        Err(error) => return record_refusal(ctx, sandbox, error, applied),
    };
    if !belongs(&claim, sandbox) {
        block(ctx, sandbox, Problem::name_taken("claim", &name), applied);
        return Ok(());
    }
    let claim = Arc::new(claim);
    ctx.expectations
        .claims
        .record(&sandbox.uid().unwrap_or_default(), Arc::clone(&claim));
    applied.claim = Some(claim);
    Ok(())
}

async fn report_lost_workspace(ctx: &Context, sandbox: &Sandbox, claim: &str) {
    let note = format!("claim {claim} was gone, and its data with it; the workspace begins empty");
    ctx.events
        .warning(sandbox, Reason::WorkspaceLost, &note)
        .await;
}

async fn apply_pod(
    ctx: &Context,
    observed: &Observed,
    step: PodStep,
    applied: &mut Applied,
) -> Result<(), Error> {
    let sandbox = &observed.sandbox;
    match (step, &observed.pod) {
        (PodStep::Create(_), _) if matches!(applied.verdict, Verdict::Blocked(_)) => Ok(()),
        (PodStep::Create(pod), _) => create_pod(ctx, sandbox, &pod, applied).await,
        (PodStep::Annotate(patch), Some(pod)) => {
            ctx.writer.merge(pod.as_ref(), patch).await.map(drop)
        }
        (PodStep::Delete(removal), Some(pod)) => delete_pod(ctx, sandbox, pod, removal).await,
        (PodStep::Keep | PodStep::Annotate(_) | PodStep::Delete(_), _) => Ok(()),
    }
}

async fn create_pod(
    ctx: &Context,
    sandbox: &Sandbox,
    pod: &Pod,
    applied: &mut Applied,
) -> Result<(), Error> {
    let pod = match create_or_read(ctx, pod).await {
        Ok(Created::New(new)) => {
            report_lost_pod(ctx, sandbox).await;
            new
        }
        Ok(Created::Existing(existing)) => existing,
        Err(error) => return record_refusal(ctx, sandbox, error, applied),
    };
    if !belongs(&pod, sandbox) {
        block(ctx, sandbox, diagnosis::conflict(&pod, sandbox), applied);
        return Ok(());
    }
    let pod = Arc::new(pod);
    ctx.expectations
        .pods
        .record(&sandbox.uid().unwrap_or_default(), Arc::clone(&pod));
    applied.pod = Some(pod);
    Ok(())
}

/// Reports the loss of the former pod: the sandbox was awake, so the controller did not
/// delete that pod.
async fn report_lost_pod(ctx: &Context, sandbox: &Sandbox) {
    let status = sandbox.status.as_ref();
    if let Some(status) = status.filter(|status| status.phase.answers())
        && let Some(name) = &status.pod_name
    {
        let note = format!("pod {name} was deleted; a new one is made with the same workspace");
        ctx.events.warning(sandbox, Reason::PodLost, &note).await;
    }
}

/// An object with the wanted name.
enum Created<K> {
    /// This call created it.
    New(K),
    /// It existed. It may belong to somebody else.
    Existing(K),
}

/// Creates `object`. If the name is taken, it reads the existing object.
async fn create_or_read<K: Writable>(ctx: &Context, object: &K) -> Result<Created<K>, Error> {
    match ctx.writer.create(object).await {
        Ok(new) => Ok(Created::New(new)),
        Err(Error::AlreadyExists(_)) => {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let existing = ctx.writer.read(&namespace, &name).await?;
            existing.map(Created::Existing).ok_or(Error::Stale(name))
        }
        Err(error) => Err(error),
    }
}

/// Records a refusal of the API server as the sandbox's problem.
///
/// # Errors
/// Every other error.
fn record_refusal(
    ctx: &Context,
    sandbox: &Sandbox,
    error: Error,
    applied: &mut Applied,
) -> Result<(), Error> {
    let Some(reason) = error.refusal() else {
        return Err(error);
    };
    let message = error.to_string();
    let problem = match reason {
        // Other objects free the quota, and webhooks come back.
        Reason::QuotaExceeded | Reason::WebhookUnavailable => Problem::waiting(reason, message),
        _ => Problem::failed(reason, message),
    };
    block(ctx, sandbox, problem, applied);
    Ok(())
}

/// Creates no pod for now. The status reports `problem`, and the waits before the next
/// attempts grow.
fn block(ctx: &Context, sandbox: &Sandbox, problem: Problem, applied: &mut Applied) {
    let wait = ctx.replacements.failed(&attempt_key(sandbox));
    let wait = SignedDuration::try_from(wait).unwrap_or_default();
    let again = Timestamp::now().checked_add(wait).ok();
    applied.requeue_at = applied.requeue_at.into_iter().chain(again).min();
    applied.verdict = Verdict::Blocked(problem);
}

async fn delete_pod(
    ctx: &Context,
    sandbox: &Sandbox,
    pod: &Pod,
    removal: Removal,
) -> Result<(), Error> {
    let left = match removal {
        Removal::NotNeeded => {
            confirm_unchanged(ctx, sandbox).await?;
            ctx.writer.delete(pod).await?
        }
        Removal::Restart => {
            let note = "the pod is replaced to apply the spec's changes";
            ctx.events.normal(sandbox, Reason::Restarting, note).await;
            ctx.writer.delete(pod).await?
        }
        // The pod may have started meanwhile. Then it has changed and stays.
        Removal::NeverRan => ctx.writer.delete_unchanged(pod).await?,
        Removal::Ended => {
            ctx.replacements.failed(&attempt_key(sandbox));
            ctx.writer.delete_unchanged(pod).await?
        }
        Removal::NodeGone => {
            let node = node_name(pod).unwrap_or_default();
            if ctx.writer.node_exists(node).await? {
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
