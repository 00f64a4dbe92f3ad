//! Creates the objects of a bucket's volume: Secret, volume, claim. Each object exists before
//! another one refers to it. Each step reads the present objects from the API server. After a
//! crash, the next attempt continues with the existing objects, or `sweep` deletes them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret};
use kube::ResourceExt;
use serde_json::json;

use super::desired::buckets::{BucketVolume, is_owner};
use super::problem::Problem;
use crate::context::Context;
use hutch_api::{Sandbox, credentials, labels};
use hutch_core::objects::{claim_of, is_ending, is_lost, label};
use hutch_core::reasons::Reason;
use hutch_core::s3::S3Credentials;
use hutch_kube::apply::Error;

/// The result of a step that an obstacle may end.
type Step<T> = Result<Result<T, Problem>, Error>;

/// Creates the volume for the sandbox's pod. Returns the problem if that is not possible.
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
    let existing = ctx.writer.read_volume(&name).await?;
    let problem = match &existing {
        Some(existing) => volume_problem(volume, existing),
        None => find_conflict(ctx, volume).await?,
    };
    if problem.is_some() {
        return Ok(problem);
    }
    let settings = &ctx.settings.buckets;
    let secret = volume.secret(&namespace, &credentials, settings);
    if let Some(problem) = apply_secret(ctx, &secret).await? {
        return Ok(Some(problem));
    }
    let existing = match existing {
        Some(existing) => existing,
        None => {
            let new = volume.persistent_volume(&namespace, settings);
            ctx.writer.create_volume(&new).await?
        }
    };
    let claim = volume.persistent_volume_claim(&namespace, sandbox);
    bind(ctx, sandbox, &existing, &claim).await
}

/// The credentials in the Secret that the bucket names. The Secret is in the sandbox's
/// namespace, or in the operator's namespace with the label of this sandbox.
async fn read_credentials(
    ctx: &Context,
    sandbox: &Sandbox,
    volume: &BucketVolume,
) -> Step<S3Credentials> {
    let wanted = &volume.bucket.credentials_secret_ref;
    let namespace = wanted.namespace.as_deref().unwrap_or(&volume.namespace);
    let refuse = |what: String| {
        let text = format!("bucket {}: {what}", volume.bucket.name);
        Ok(Err(Problem::failed(Reason::NoCredentials, text)))
    };
    let foreign = namespace != volume.namespace;
    let shown = format!("Secret {} of namespace {namespace}", wanted.name);
    if foreign && namespace != ctx.settings.buckets.operator_namespace {
        return refuse(format!("{shown} cannot be used from another namespace"));
    }
    let secret = ctx.writer.read::<Secret>(namespace, &wanted.name).await?;
    let allowed = |secret: &Secret| {
        let owner = label(&secret.metadata, labels::SANDBOX_UID);
        !foreign || (owner.is_some() && owner == sandbox.metadata.uid.as_deref())
    };
    let Some(secret) = secret.filter(allowed) else {
        return refuse(format!(
            "there is no {shown} that this sandbox may use: make it with the keys {} and {}",
            credentials::ACCESS_KEY_ID,
            credentials::SECRET_ACCESS_KEY
        ));
    };
    let data = secret.data.unwrap_or_default();
    match S3Credentials::from_secret(|key| Some(&*data.get(key)?.0)) {
        Ok(credentials) => Ok(Ok(credentials)),
        Err(unusable) => refuse(format!("{shown} {unusable}")),
    }
}

/// The problem with an existing volume of the right name: it is another volume, or it is
/// ending.
fn volume_problem(volume: &BucketVolume, existing: &PersistentVolume) -> Option<Problem> {
    if !volume.matches(existing) {
        let name = existing.name_any();
        return Some(Problem::name_taken("PersistentVolume", &name));
    }
    is_ending(&existing.metadata).then(|| Problem::starting("the bucket's former volume is ending"))
}

/// The problem if the API server has another volume that conflicts with a new one.
async fn find_conflict(ctx: &Context, volume: &BucketVolume) -> Result<Option<Problem>, Error> {
    let all = ctx.writer.list_volumes().await?;
    let Some(other) = all.iter().find(|other| volume.conflicts_with(other)) else {
        return Ok(None);
    };
    if let Some((namespace, name)) = claim_of(other)
        && namespace == volume.namespace
    {
        let claim: Option<PersistentVolumeClaim> = ctx.writer.read(namespace, name).await?;
        if claim.is_none_or(|claim| is_ending(&claim.metadata)) {
            let message = "the bucket's volume with other credentials or in another mode is ending";
            return Ok(Some(Problem::starting(message)));
        }
    }
    Ok(Some(volume.conflict(other)))
}

/// True if both objects belong to the same volume of a bucket.
fn same_volume<K: ResourceExt>(one: &K, other: &K) -> bool {
    one.labels().get(labels::VOLUME) == other.labels().get(labels::VOLUME)
}

/// Writes the Secret. Returns a problem if another object has its name.
async fn apply_secret(ctx: &Context, secret: &Secret) -> Result<Option<Problem>, Error> {
    let namespace = secret.namespace().unwrap_or_default();
    let existing: Option<Secret> = ctx.writer.read(&namespace, &secret.name_any()).await?;
    if let Some(existing) = &existing {
        if !same_volume(existing, secret) {
            let name = secret.name_any();
            return Ok(Some(Problem::name_taken("Secret", &name)));
        }
        if existing.data == secret.data {
            return Ok(None);
        }
    }
    ctx.writer.apply(secret).await.map(|_| None)
}

/// Creates the claim of `volume`, or makes the sandbox an owner of the existing claim.
async fn bind(
    ctx: &Context,
    sandbox: &Sandbox,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Result<Option<Problem>, Error> {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let existing: Option<PersistentVolumeClaim> = ctx.writer.read(&namespace, &name).await?;
    if let Some(existing) = &existing
        && let Some(problem) = claim_problem(ctx, existing, claim).await?
    {
        return Ok(Some(problem));
    }
    free_volume(ctx, volume, existing.as_ref()).await?;
    match existing {
        None => ctx.writer.create(claim).await.map(drop)?,
        Some(existing) => add_owner(ctx, sandbox, &existing, claim).await?,
    }
    Ok(None)
}

/// The problem with an existing claim of the right name: it belongs to somebody else, it is
/// ending, or its volume is lost. A lost claim is deleted, so that the next attempt can
/// create a new one.
async fn claim_problem(
    ctx: &Context,
    existing: &PersistentVolumeClaim,
    wanted: &PersistentVolumeClaim,
) -> Result<Option<Problem>, Error> {
    let name = wanted.name_any();
    if !same_volume(existing, wanted) {
        return Ok(Some(Problem::name_taken("claim", &name)));
    }
    if is_ending(&existing.metadata) {
        let message = format!("the former claim {name} is ending");
        return Ok(Some(Problem::starting(message)));
    }
    if is_lost(existing) {
        ctx.writer.delete_unchanged(existing).await?;
        return Ok(Some(Problem::starting("a lost claim is replaced")));
    }
    Ok(None)
}

/// Removes the UID of a former claim from the volume, so that a new claim can bind it.
async fn free_volume(
    ctx: &Context,
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<(), Error> {
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let bound = reference.and_then(|reference| reference.uid.as_ref());
    if bound.is_none() || bound == claim.and_then(|claim| claim.metadata.uid.as_ref()) {
        return Ok(());
    }
    let free = json!({ "spec": { "claimRef": { "uid": null, "resourceVersion": null } } });
    ctx.writer.merge_volume(volume, free).await
}

/// Adds the owners of `wanted` to the existing claim, unless the sandbox is an owner already.
async fn add_owner(
    ctx: &Context,
    sandbox: &Sandbox,
    existing: &PersistentVolumeClaim,
    wanted: &PersistentVolumeClaim,
) -> Result<(), Error> {
    if is_owner(sandbox, existing) {
        return Ok(());
    }
    let mut owners = existing.owner_references().to_vec();
    owners.extend(wanted.owner_references().iter().cloned());
    let patch = json!({ "metadata": { "ownerReferences": owners } });
    ctx.writer.merge(existing, patch).await.map(drop)
}

/// Removes the sandbox from the owners of a claim. The last owner deletes the claim, because
/// the garbage collector keeps an object whose owners were removed from it.
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
