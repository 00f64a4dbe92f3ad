//! Deletes the leftovers of buckets: Hutch's volumes whose claim is gone, the Secrets
//! of such volumes, and Secrets that the facade created for sandboxes that are gone or
//! no longer name them. Before each delete the sweep checks with the API server, not
//! with the cache, and it deletes the object only in the version that it saw. There are
//! no finalizers: the next start finds the leftovers of a crash.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::context::Context;
use hutch_api::{Sandbox, labels};
use hutch_core::names::BUCKET_PV;
use hutch_core::objects::{claim_of, is_ending, is_managed, is_released, label, managed_selector};
use hutch_kube::apply::Error;
use hutch_kube::watches::Change;

/// Time between two sweeps without a trigger.
const SWEEP_PERIOD: Duration = Duration::from_secs(180);
/// Time between an error and the next sweep.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// One sweep serves all triggers that arrive within this time.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// Minimum age of an unnamed Secret before it is deleted: the facade creates a Secret
/// before it adds the bucket to the spec.
const NEW_SECRET_GRACE: Duration = Duration::from_secs(60);

/// Sweeps at once, after each trigger and every three minutes, until `stop`.
pub async fn run(ctx: Arc<Context>, stop: CancellationToken) {
    let mut triggers = std::pin::pin!(triggers(&ctx));
    let work = async {
        loop {
            let again = match sweep(&ctx).await {
                Ok(again) => again.unwrap_or(SWEEP_PERIOD),
                Err(error) => {
                    match error {
                        Error::Stale(_) | Error::NotLeader(_) => debug!(%error, "sweeping again"),
                        _ => warn!(%error, "what buckets left behind was not swept away"),
                    }
                    RETRY_DELAY
                }
            };
            if tokio::time::timeout(again, triggers.next()).await.is_ok() {
                tokio::time::sleep(DEBOUNCE).await;
                while triggers.next().now_or_never().flatten().is_some() {}
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Yields once for each change that may leave something behind.
fn triggers(ctx: &Arc<Context>) -> impl Stream<Item = ()> + Send + 'static {
    let operator = ctx.settings.buckets.operator_namespace.clone();
    let cache = ctx.caches.sandboxes.clone();
    let mut named = HashMap::<(Option<String>, String), BTreeSet<String>>::new();
    let sandboxes = ctx.caches.sandboxes.triggers().filter_map(move |change| {
        let Change::One {
            namespace, name, ..
        } = change.as_ref()
        else {
            return std::future::ready(Some(()));
        };
        let sandbox = cache.get(namespace.as_deref().unwrap_or_default(), name);
        let key = (namespace.clone(), name.clone());
        let left = match sandbox {
            None => named.remove(&key).is_none_or(|before| !before.is_empty()),
            Some(sandbox) => {
                let now: BTreeSet<_> = secrets_of(&sandbox, &operator).cloned().collect();
                let before = named.insert(key, now.clone());
                before.is_some_and(|before| !before.is_subset(&now))
            }
        };
        std::future::ready(left.then_some(()))
    });
    let store = ctx.caches.volumes.store().clone();
    let volumes = ctx.caches.volumes.triggers().filter_map(move |change| {
        let left = match change.as_ref() {
            Change::All => true,
            Change::One { name, .. } => {
                let volume = store.get(&ObjectRef::new(name));
                match volume {
                    Some(volume) => is_managed(&volume.metadata) && is_released(&volume),
                    None => name.starts_with(BUCKET_PV),
                }
            }
        };
        std::future::ready(left.then_some(()))
    });
    stream::select(sandboxes, volumes)
}

/// The Secrets in the operator's namespace that the sandbox names.
fn secrets_of<'a>(sandbox: &'a Sandbox, operator: &str) -> impl Iterator<Item = &'a String> {
    let all = sandbox
        .spec
        .buckets
        .iter()
        .map(|b| &b.credentials_secret_ref);
    let here = all.filter(move |secret| secret.namespace.as_deref() == Some(operator));
    here.map(|secret| &secret.name)
}

/// Sweeps once. Returns the time until a Secret that is too young now can be deleted.
async fn sweep(ctx: &Context) -> Result<Option<Duration>, Error> {
    for volume in ctx.caches.volumes.store().state() {
        if is_unclaimed(ctx, &volume) {
            sweep_volume(ctx, &volume).await?;
        }
    }
    let operator = &ctx.settings.buckets.operator_namespace;
    let ours = managed_selector();
    let mut orphans = Vec::new();
    for secret in ctx.writer.list_secrets(operator, &ours).await? {
        if let Some(volume) = secret.labels().get(labels::VOLUME) {
            sweep_secret_of(ctx, volume, &secret).await?;
        } else if secret.labels().contains_key(labels::SANDBOX_UID) {
            orphans.push(secret);
        }
    }
    let named = |secret: &Secret| {
        let all = ctx.caches.sandboxes.store().state();
        all.iter().any(|sandbox| names(sandbox, secret, operator))
    };
    orphans.retain(|secret| !named(secret));
    sweep_secrets(ctx, &orphans).await
}

/// True if the volume belongs to this controller and the caches show no claim for it.
fn is_unclaimed(ctx: &Context, volume: &PersistentVolume) -> bool {
    let settings = &ctx.settings.buckets;
    let Some((namespace, name)) = claim_of(volume).filter(|_| is_managed(&volume.metadata)) else {
        return false;
    };
    let watched = settings.watched.as_deref();
    secret_namespace(volume) == Some(&settings.operator_namespace)
        && watched.is_none_or(|watched| watched == namespace)
        && (is_released(volume) || ctx.caches.claims.get(namespace, name).is_none())
        && !is_ending(&volume.metadata)
}

/// Namespace of the volume's Secret: that of the Hutch that created the volume.
fn secret_namespace(volume: &PersistentVolume) -> Option<&str> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    csi.node_publish_secret_ref.as_ref()?.namespace.as_deref()
}

async fn sweep_volume(ctx: &Context, volume: &PersistentVolume) -> Result<(), Error> {
    let Some((namespace, name)) = claim_of(volume) else {
        return Ok(());
    };
    let _guard = ctx.volume_lock.lock().await;
    let claim: Option<PersistentVolumeClaim> = ctx.writer.read(namespace, name).await?;
    if claim.is_some() {
        return Ok(());
    }
    debug!(volume = %volume.name_any(), "its claim is gone: the volume goes, its data stay");
    ctx.writer.delete_volume(volume).await
}

async fn sweep_secret_of(ctx: &Context, volume: &str, secret: &Secret) -> Result<(), Error> {
    let reference = ObjectRef::new(volume);
    if ctx.caches.volumes.store().get(&reference).is_some() {
        return Ok(());
    }
    let _guard = ctx.volume_lock.lock().await;
    match ctx.writer.read_volume(volume).await? {
        Some(_) => Ok(()),
        None => ctx.writer.delete_unchanged(secret).await.map(drop),
    }
}

/// True if the Secret was created for this sandbox and the sandbox names it.
fn names(sandbox: &Sandbox, secret: &Secret, operator: &str) -> bool {
    owns(sandbox, secret)
        && secrets_of(sandbox, operator).any(|name| Some(name) == secret.metadata.name.as_ref())
}

fn owns(sandbox: &Sandbox, secret: &Secret) -> bool {
    label(&secret.metadata, labels::SANDBOX_UID) == sandbox.metadata.uid.as_deref()
}

/// The sandboxes of all namespaces, and the UIDs of those that do not decode.
async fn sandboxes(ctx: &Context) -> Result<(Vec<Sandbox>, Vec<String>), Error> {
    let (mut living, mut unreadable) = (Vec::new(), Vec::new());
    for sandbox in ctx.writer.list::<Sandbox>(None).await? {
        match sandbox.0 {
            Ok(sandbox) => living.push(sandbox),
            Err(invalid) => unreadable.extend(invalid.metadata.uid),
        }
    }
    Ok((living, unreadable))
}

/// The time until the Secret may be deleted.
fn grace_left(secret: &Secret) -> Duration {
    let created = secret.metadata.creation_timestamp.as_ref();
    let age = created.map(|created| Timestamp::now().duration_since(created.0));
    let age = age.and_then(|age| Duration::try_from(age).ok());
    NEW_SECRET_GRACE.saturating_sub(age.unwrap_or_default())
}

/// Deletes the Secrets that no existing sandbox names. If the Secret's sandbox exists,
/// the spec may not name a new Secret yet, so the sweep waits for it. Returns the
/// shortest such wait.
async fn sweep_secrets(ctx: &Context, secrets: &[Secret]) -> Result<Option<Duration>, Error> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let operator = &ctx.settings.buckets.operator_namespace;
    let (living, unreadable) = sandboxes(ctx).await?;
    let mut again = None;
    for secret in secrets {
        // A sandbox that does not decode may name any Secret of its own.
        if unreadable
            .iter()
            .any(|uid| secret.labels().get(labels::SANDBOX_UID) == Some(uid))
        {
            continue;
        }
        if living
            .iter()
            .any(|sandbox| names(sandbox, secret, operator))
        {
            continue;
        }
        let left = grace_left(secret);
        if living.iter().any(|sandbox| owns(sandbox, secret)) && !left.is_zero() {
            again = again.into_iter().chain([left]).min();
            continue;
        }
        debug!(secret = %secret.name_any(), "no sandbox names it: it goes");
        ctx.writer.delete_unchanged(secret).await?;
    }
    Ok(again)
}
