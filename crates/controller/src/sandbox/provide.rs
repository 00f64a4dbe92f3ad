//! Makes what a bucket's volume consists of: Secret, volume, claim, in this order,
//! so that what is there can be used by what refers to it. Each step finds out what
//! there is from the API server itself, and a crash after any of them leaves
//! something that the next attempt takes over and `sweep` takes away.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret};
use kube::ResourceExt;
use serde_json::json;

use super::desired::buckets::{BucketVolume, uses};
use super::desired::csi::Keys;
use super::problem::Problem;
use crate::context::Context;
use hutch_api::{Sandbox, credentials, labels};
use hutch_core::buckets::reasons;
use hutch_kube::apply::Error;

/// Sees to it that the volume is there for the sandbox's pod, or says what stands in
/// the way.
pub async fn provide(
    ctx: &Context,
    sandbox: &Sandbox,
    volume: &BucketVolume,
) -> Result<Option<Problem>, Error> {
    let _guard = ctx.volume_lock.lock().await;
    let credentials = match read_credentials(ctx, sandbox, volume).await? {
        Ok(credentials) => credentials,
        Err(problem) => return Ok(Some(problem)),
    };
    let namespace = ctx.writer.namespace_uid(&volume.namespace).await?;
    let Some(namespace) = namespace else {
        return Err(Error::Stale("the namespace".to_owned()));
    };
    let name = volume.name(&namespace);
    let there = ctx.writer.read_volume(&name).await?;
    let problem = match &there {
        Some(there) => usable(volume, there),
        None => obstacle(ctx, volume).await?,
    };
    if problem.is_some() {
        return Ok(problem);
    }
    let settings = &ctx.settings.buckets;
    let secret = volume.secret(&namespace, credentials, settings);
    if !apply_secret(ctx, &secret).await? {
        return Ok(Some(name_conflict("Secret", &name)));
    }
    let there = match there {
        Some(there) => there,
        None => {
            let new = volume.persistent_volume(&namespace, settings);
            ctx.writer.create_volume(&new).await?
        }
    };
    let claim = volume.persistent_volume_claim(&namespace, sandbox);
    bind(ctx, sandbox, &there, claim).await
}

/// The credentials that the bucket names: of the sandbox's namespace, or of the
/// operator's where the Secret says that it is this sandbox's.
async fn read_credentials(
    ctx: &Context,
    sandbox: &Sandbox,
    volume: &BucketVolume,
) -> Result<Result<Keys, Problem>, Error> {
    let wanted = &volume.bucket.credentials_secret_ref;
    let namespace = wanted.namespace.as_deref().unwrap_or(&volume.namespace);
    let refuse = |what: String| {
        let text = format!("bucket {}: {what}", volume.bucket.name);
        Ok(Err(Problem::failed(reasons::NO_CREDENTIALS, text)))
    };
    let foreign = namespace != volume.namespace;
    let shown = format!("Secret {} of namespace {namespace}", wanted.name);
    if foreign && namespace != ctx.settings.buckets.operator_namespace {
        return refuse(format!("{shown} cannot be used from another namespace"));
    }
    let secret = ctx.writer.read::<Secret>(namespace, &wanted.name).await?;
    let ours = |secret: &Secret| {
        let owner = secret.labels().get(labels::SANDBOX_UID);
        !foreign || (owner.is_some() && owner == sandbox.metadata.uid.as_ref())
    };
    let Some(secret) = secret.filter(ours) else {
        return refuse(format!(
            "there is no {shown} that this sandbox may use: make it with the keys {} and {}",
            credentials::ACCESS_KEY_ID,
            credentials::SECRET_ACCESS_KEY
        ));
    };
    let mut data = secret.data.unwrap_or_default();
    let mut take = |key: &str| {
        data.remove(key)
            .filter(|ByteString(value)| !value.is_empty())
    };
    let pair = (
        take(credentials::ACCESS_KEY_ID),
        take(credentials::SECRET_ACCESS_KEY),
    );
    match pair {
        (Some(id), Some(secret)) => Ok(Ok(Keys { id, secret })),
        _ => refuse(format!(
            "{shown} lacks {} or {}",
            credentials::ACCESS_KEY_ID,
            credentials::SECRET_ACCESS_KEY
        )),
    }
}

/// Whether what has the volume's name is that volume, and stays.
fn usable(volume: &BucketVolume, there: &PersistentVolume) -> Option<Problem> {
    if !volume.is(there) {
        return Some(name_conflict("PersistentVolume", &there.name_any()));
    }
    let ends = there.metadata.deletion_timestamp.is_some();
    ends.then(|| Problem::starting("the bucket's former volume is ending"))
}

/// What is in the way of a new volume, as the API server has it now.
async fn obstacle(ctx: &Context, volume: &BucketVolume) -> Result<Option<Problem>, Error> {
    let all = ctx.writer.list_volumes().await?;
    let Some(other) = all.iter().find(|other| volume.clashes(other)) else {
        return Ok(None);
    };
    let claim = other.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if let Some(claim) = claim
        && let (Some(namespace), Some(name)) = (&claim.namespace, &claim.name)
        && *namespace == volume.namespace
    {
        let claim: Option<PersistentVolumeClaim> = ctx.writer.read(namespace, name).await?;
        if claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()) {
            let message = "the bucket's volume with other credentials or in another mode is ending";
            return Ok(Some(Problem::starting(message)));
        }
    }
    Ok(Some(volume.in_use(other)))
}

/// Writes the Secret; `false` where something else has its name.
async fn apply_secret(ctx: &Context, secret: &Secret) -> Result<bool, Error> {
    let namespace = secret.namespace().unwrap_or_default();
    let there: Option<Secret> = ctx.writer.read(&namespace, &secret.name_any()).await?;
    if let Some(there) = &there {
        if there.labels().get(labels::VOLUME) != secret.labels().get(labels::VOLUME) {
            return Ok(false);
        }
        if there.data == secret.data {
            return Ok(true);
        }
    }
    ctx.writer.apply(secret).await.map(|_| true)
}

/// Makes the claim, or has the sandbox own it, too; and lets a volume whose claim
/// is gone be claimed again.
async fn bind(
    ctx: &Context,
    sandbox: &Sandbox,
    volume: &PersistentVolume,
    claim: PersistentVolumeClaim,
) -> Result<Option<Problem>, Error> {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let there: Option<PersistentVolumeClaim> = ctx.writer.read(&namespace, &name).await?;
    if let Some(there) = &there {
        if there.labels().get(labels::VOLUME) != claim.labels().get(labels::VOLUME) {
            return Ok(Some(name_conflict("claim", &name)));
        }
        if there.metadata.deletion_timestamp.is_some() {
            let message = format!("the former claim {name} is ending");
            return Ok(Some(Problem::starting(message)));
        }
        let status = there.status.as_ref();
        if status.and_then(|status| status.phase.as_deref()) == Some("Lost") {
            // Somebody deleted its volume; it never takes another one.
            ctx.writer.delete_unchanged(there).await?;
            return Ok(Some(Problem::starting("a lost claim is replaced")));
        }
    }
    let bound = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let bound = bound.and_then(|claim| claim.uid.as_ref());
    if bound.is_some() && bound != there.as_ref().and_then(|there| there.metadata.uid.as_ref()) {
        let free = json!({ "spec": { "claimRef": { "uid": null, "resourceVersion": null } } });
        ctx.writer.merge_volume(volume, free).await?;
    }
    match there {
        None => ctx.writer.create(&claim).await.map(drop)?,
        Some(there) if uses(sandbox, &there) => {}
        Some(there) => {
            let mut owners = there.owner_references().to_vec();
            owners.extend(claim.owner_references().iter().cloned());
            let patch = json!({ "metadata": { "ownerReferences": owners } });
            ctx.writer.merge(&there, patch).await.map(drop)?;
        }
    }
    Ok(None)
}

/// Gives up a claim that the sandbox has no use for; the last one to do so deletes
/// it, as the garbage collector leaves what never had an owner.
pub async fn release(
    ctx: &Context,
    sandbox: &Sandbox,
    claim: &PersistentVolumeClaim,
) -> Result<(), Error> {
    let _guard = ctx.volume_lock.lock().await;
    let mut owners = claim.owner_references().to_vec();
    owners.retain(|owner| Some(&owner.uid) != sandbox.metadata.uid.as_ref());
    let released = if owners.is_empty() {
        ctx.writer.delete_unchanged(claim).await.map(drop)
    } else {
        let patch = json!({ "metadata": { "ownerReferences": owners } });
        ctx.writer.merge(claim, patch).await.map(drop)
    };
    match released {
        Err(Error::NotFound(_)) => Ok(()),
        result => result,
    }
}

fn name_conflict(kind: &str, name: &str) -> Problem {
    let message = format!("{kind} {name} belongs to something else: remove it");
    Problem::failed("NameConflict", message)
}
