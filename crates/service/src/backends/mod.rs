//! Sandboxes that a backend, a client of the project API, creates for a project that
//! has no row yet. It creates one by title and language, makes it reachable through
//! ports and a domain, and deletes it by name or UID.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::target::{Target, annotation, project_of};
use crate::{Acquirer, ServiceError, cache};
use hutch_api::{Sandbox, annotations};
use hutch_core::interfaces::{AttachedPods, Exposures, ResourceError, Sandboxes};
use hutch_core::sync::KeyedMutex;

/// The ports on which programs in a sandbox listen: front ends, then back ends.
pub const PORTS: [u16; 2] = [5173, 8888];

/// How long the creation of such a sandbox may take. Its image may have to be pulled
/// first. Clients wait five minutes.
const CREATE_TIMEOUT: Duration = Duration::from_secs(240);

/// The images and domains that the project API offers.
#[derive(Clone, Debug, Default)]
pub struct BackendSettings {
    /// Images by language.
    pub images: BTreeMap<String, String>,
    /// Domains below which a sandbox may be reached. Empty: any domain.
    pub domains: Vec<String>,
}

/// A sandbox that was created for a backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// UID of the sandbox.
    pub id: String,
    /// Name of the sandbox and of its pod.
    pub name: String,
    /// The image that its pod runs.
    pub image: String,
    /// The path of its workspace.
    pub workdir: String,
    /// The ports at which 5173 and 8888 of its pod are reachable from outside, in this order.
    pub ports: Vec<u16>,
}

/// Why a request of a backend failed.
#[derive(Debug, Error)]
pub enum BackendError {
    /// There is no image for the language. The values: the language, the known ones.
    #[error("backend_language {0:?} is not known; known are {1}")]
    Language(String, String),
    /// The host is not valid, not below an allowed domain, or in use.
    #[error("{0}")]
    Domain(String),
    /// There is no such sandbox.
    #[error("there is no container {0}")]
    NotFound(String),
    /// The service could not do it.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<ResourceError> for BackendError {
    fn from(error: ResourceError) -> Self {
        Self::Service(error.into())
    }
}

/// Creates, exposes and deletes the sandboxes of backends.
pub struct Backends {
    acquirer: Arc<Acquirer>,
    sandboxes: Arc<dyn Sandboxes>,
    attached_pods: Arc<dyn AttachedPods>,
    exposures: Arc<dyn Exposures>,
    settings: BackendSettings,
    /// One lock per host name: its route is checked and set in one piece.
    hosts: KeyedMutex<String>,
}

impl Backends {
    /// Makes this part over the sandboxes of one namespace.
    pub fn new(
        acquirer: Arc<Acquirer>,
        sandboxes: Arc<dyn Sandboxes>,
        attached_pods: Arc<dyn AttachedPods>,
        exposures: Arc<dyn Exposures>,
        settings: BackendSettings,
    ) -> Self {
        Self {
            acquirer,
            sandboxes,
            attached_pods,
            exposures,
            settings,
            hosts: KeyedMutex::default(),
        }
    }

    /// Creates a sandbox with the image of that language, or the default image, and
    /// waits until it runs. If this fails, or the caller drops the future, the sandbox
    /// is deleted: its name is random, so no client could find it again.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn create(
        &self,
        name: &str,
        language: Option<&str>,
    ) -> Result<Backend, BackendError> {
        let image = language.map(|it| self.image_of(it)).transpose()?;
        let target = Target::backend(name, image);
        let guard = DeleteOnDrop {
            sandboxes: self.sandboxes.clone(),
            name: Some(target.name.clone()),
        };
        let deadline = Instant::now() + CREATE_TIMEOUT;
        let made = self.acquirer.acquire(&target, deadline).await;
        made.map_err(|error| match error {
            ServiceError::NotReady { why, .. } => ServiceError::NotReady {
                waited: CREATE_TIMEOUT,
                why,
            },
            error => error,
        })?;
        let gone = || ServiceError::Gone(target.name.clone());
        let sandbox = cache::live(&*self.sandboxes, &target.name).ok_or_else(gone)?;
        let ports = self.exposures.expose(&sandbox, &PORTS).await?;
        guard.disarm();
        let image = sandbox.status.as_ref().and_then(|it| it.image.clone());
        Ok(Backend {
            id: sandbox.metadata.uid.clone().unwrap_or_default(),
            name: target.name,
            image: image.unwrap_or_default(),
            workdir: sandbox.spec.workspace.mount_path.clone(),
            ports,
        })
    }

    fn image_of(&self, language: &str) -> Result<String, BackendError> {
        let images = &self.settings.images;
        images.get(language).cloned().ok_or_else(|| {
            let known: Vec<_> = images.keys().map(String::as_str).collect();
            BackendError::Language(language.to_owned(), known.join(", "))
        })
    }

    /// Deletes the sandbox of that UID or name. A sandbox that does not exist is no
    /// error. Returns true if nothing of that name is left. A sandbox that was created
    /// neither for a backend nor for a project stays, and so does an attached pod.
    ///
    /// # Errors
    /// If the API server refuses the deletion, or it does not end in time.
    pub async fn delete(&self, container: &str) -> Result<bool, BackendError> {
        if let Some(sandbox) = self.find(container).await? {
            if !in_project_api(&sandbox) {
                return Ok(false);
            }
            let name = sandbox.metadata.name.as_deref().unwrap_or_default();
            self.acquirer.destroy(&Target::named(name, None)).await?;
        }
        Ok(self.attached_pods.get(container).is_none())
    }

    /// Routes requests for `subdomain.domain` to a port of the sandbox, and returns the
    /// whole host name.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn route(
        &self,
        container: &str,
        (subdomain, domain): (&str, &str),
        port: u16,
    ) -> Result<String, BackendError> {
        let host = self.host(subdomain, domain)?;
        let sandbox = self.find(container).await?;
        let sandbox = sandbox.filter(|sandbox| in_project_api(sandbox));
        let sandbox = sandbox.ok_or_else(|| BackendError::NotFound(container.to_owned()))?;
        let _host = self.hosts.lock(host.clone()).await;
        self.check_host_is_free(&sandbox, &host).await?;
        let mut ports = PORTS.to_vec();
        if !ports.contains(&port) {
            ports.push(port);
        }
        self.exposures.expose(&sandbox, &ports).await?;
        self.exposures.route(&sandbox, &host, port).await?;
        Ok(host)
    }

    /// The host `subdomain.domain`, if it is valid and below an allowed domain.
    fn host(&self, subdomain: &str, domain: &str) -> Result<String, BackendError> {
        let host = format!("{subdomain}.{domain}").to_lowercase();
        if !is_host(&host) {
            let text = format!("{host:?} is no name of a host");
            return Err(BackendError::Domain(text));
        }
        let domains = &self.settings.domains;
        let is_allowed = |allowed: &String| allowed.eq_ignore_ascii_case(domain);
        if !domains.is_empty() && !domains.iter().any(is_allowed) {
            let allowed = domains.join(", ");
            return Err(BackendError::Domain(format!(
                "the domain {domain} is not served here; served are {allowed}"
            )));
        }
        Ok(host)
    }

    /// Refuses a host that leads elsewhere. If two Ingresses have the same host, each
    /// ingress controller has its own rule for which one it uses.
    async fn check_host_is_free(&self, sandbox: &Sandbox, host: &str) -> Result<(), BackendError> {
        let meta = &sandbox.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let own = meta.uid.as_deref().unwrap_or_default();
        for uid in self.exposures.sandboxes_behind(namespace, host).await? {
            if uid == own {
                continue;
            }
            // The Ingress of a deleted sandbox is deleted a moment after the sandbox.
            // It does not count.
            let holder = match uid.as_str() {
                "" => Some("something that is not Hutch's".to_owned()),
                uid => self
                    .find(uid)
                    .await?
                    .and_then(|it| it.metadata.name.clone()),
            };
            if let Some(holder) = holder {
                let text = format!("{host} leads to {holder} already");
                return Err(BackendError::Domain(text));
            }
        }
        Ok(())
    }

    /// The sandbox of that name or UID, unless it is being deleted. If the cache does not
    /// have it, this asks the API server: another replica may have created it a moment
    /// ago.
    async fn find(&self, container: &str) -> Result<Option<Arc<Sandbox>>, ServiceError> {
        let named = |sandbox: &Arc<Sandbox>| {
            let meta = &sandbox.metadata;
            [meta.name.as_deref(), meta.uid.as_deref()].contains(&Some(container))
        };
        let known = self.sandboxes.all().into_iter().find(named);
        let found = match known {
            Some(known) => Some(known),
            None if uuid::Uuid::try_parse(container).is_ok() => {
                let found = self.sandboxes.fetch_by_uid(container).await?;
                found.map(Arc::new)
            }
            None => self.sandboxes.fetch(container).await?.map(Arc::new),
        };
        Ok(found.filter(|it| cache::is_live(it)))
    }
}

/// True if the project API may delete or route to the sandbox: a backend created it, or
/// it works for a project. An API key for the project API gives no access to sandboxes
/// of the tenant API.
fn in_project_api(sandbox: &Sandbox) -> bool {
    annotation(sandbox, annotations::TITLE).is_some() || project_of(sandbox).is_some()
}

/// Deletes a sandbox when dropped, unless it was disarmed: its creation failed, or the
/// client left before it got the name.
struct DeleteOnDrop {
    sandboxes: Arc<dyn Sandboxes>,
    /// `None` once it is disarmed.
    name: Option<String>,
}

impl DeleteOnDrop {
    fn disarm(mut self) {
        self.name = None;
    }
}

impl Drop for DeleteOnDrop {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let sandboxes = self.sandboxes.clone();
        tokio::spawn(async move {
            if let Err(error) = delete_unreturned(&*sandboxes, &name).await {
                tracing::warn!(sandbox = name, %error, "left behind: nobody knows its name");
            }
        });
    }
}

async fn delete_unreturned(sandboxes: &dyn Sandboxes, name: &str) -> Result<(), ResourceError> {
    if let Some(sandbox) = sandboxes.fetch(name).await? {
        let uid = sandbox.metadata.uid.unwrap_or_default();
        sandboxes.delete(name, &uid).await?;
    }
    Ok(())
}

/// True for a DNS name of two labels or more (RFC 1123): letters, digits and dashes.
fn is_host(name: &str) -> bool {
    let fits = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let mut bytes = label.bytes();
        label.len() <= 63
            && edge(label.bytes().next())
            && edge(label.bytes().last())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').count() > 1 && name.split('.').all(fits)
}

#[cfg(test)]
mod tests;
