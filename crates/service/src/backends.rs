//! Sandboxes that a backend makes for a project which it has no row for yet: made
//! by name and language, reached by ports and a domain, ended by name or UID.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::target::{Target, annotation, project_of};
use super::{Service, ServiceError};
use hutch_api::{Sandbox, annotations};
use hutch_core::interfaces::ResourceError;

/// Where front ends listen in a sandbox, and back ends.
pub const PORTS: [u16; 2] = [5173, 8888];

/// How long a sandbox may take that is made by name: its image may have to be
/// pulled first, and clients wait five minutes.
const MAKING: Duration = Duration::from_secs(240);

/// What languages and domains there are for backends.
#[derive(Clone, Debug, Default)]
pub struct BackendSettings {
    /// Images by language.
    pub images: BTreeMap<String, String>,
    /// Domains below which a sandbox may be reached. Empty: any.
    pub domains: Vec<String>,
}

/// A sandbox that a backend got.
#[derive(Clone, Debug)]
pub struct Backend {
    /// UID of the sandbox.
    pub id: String,
    /// Name of the sandbox and of its pod.
    pub name: String,
    /// What it runs.
    pub image: String,
    /// Where the workspace is.
    pub workdir: String,
    /// Where its [`PORTS`] are reached.
    pub ports: Vec<u16>,
}

/// Why a backend did not get what it wants.
#[derive(Debug, Error)]
pub enum BackendError {
    /// No image is known for the language.
    #[error("backend_language {0:?} is not known; known are {1}")]
    Language(String, String),
    /// It is no domain that a sandbox may have here.
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

impl Service {
    /// Makes a sandbox with the image of that language, or the default one, and
    /// waits until it runs. One that nobody can be told of is deleted: its name is
    /// made up, so nobody could ask for it again.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn create_backend(
        self: &Arc<Self>,
        name: &str,
        language: Option<&str>,
    ) -> Result<Backend, BackendError> {
        let images = &self.settings.backends.images;
        let image = match language {
            None => None,
            Some(language) => Some(images.get(language).cloned().ok_or_else(|| {
                let known: Vec<_> = images.keys().map(String::as_str).collect();
                BackendError::Language(language.to_owned(), known.join(", "))
            })?),
        };
        let target = Target::backend(name, image);
        let mut untold = Untold {
            service: self.clone(),
            name: Some(target.name.clone()),
        };
        let made = self.acquire(&target, Instant::now() + MAKING).await;
        made.map_err(|error| match error {
            ServiceError::NotReady { why, .. } => ServiceError::NotReady {
                waited: MAKING,
                why,
            },
            error => error,
        })?;
        let gone = || ServiceError::Gone(target.name.clone());
        let sandbox = self.living(&target.name).ok_or_else(gone)?;
        let ports = self.exposures.expose(&sandbox, &PORTS).await?;
        untold.name = None;
        let status = sandbox.status.as_ref();
        Ok(Backend {
            id: sandbox.metadata.uid.clone().unwrap_or_default(),
            name: target.name,
            image: status
                .and_then(|status| status.image.clone())
                .unwrap_or_default(),
            workdir: sandbox.spec.workspace.mount_path.clone(),
            ports,
        })
    }

    /// Ends the sandbox of that UID or name; that there is none is no error. Returns
    /// whether nothing of that name is left: what was made neither for a backend nor
    /// for a project stays, and so does a pod of somebody else's.
    ///
    /// # Errors
    /// When the cluster does not take the deletion, or it is not done in time.
    pub async fn delete_backend(&self, container: &str) -> Result<bool, BackendError> {
        if let Some(sandbox) = self.find(container).await? {
            if !for_projects(&sandbox) {
                return Ok(false);
            }
            let name = sandbox.metadata.name.as_deref().unwrap_or_default();
            self.destroy(&Target::named(name, None)).await?;
        }
        Ok(self.guests.get(container).is_none())
    }

    /// Leads requests for a name below a domain to a port of the sandbox, and
    /// returns the whole name.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn route_backend(
        &self,
        container: &str,
        (subdomain, domain): (&str, &str),
        port: u16,
    ) -> Result<String, BackendError> {
        let host = format!("{subdomain}.{domain}").to_lowercase();
        if !is_host(&host) {
            return Err(BackendError::Domain(format!(
                "{host:?} is no name of a host"
            )));
        }
        let domains = &self.settings.backends.domains;
        if !domains.is_empty()
            && !domains
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(domain))
        {
            let allowed = domains.join(", ");
            return Err(BackendError::Domain(format!(
                "the domain {domain} is not served here; served are {allowed}"
            )));
        }
        let sandbox = self.find(container).await?;
        let sandbox = sandbox.filter(|sandbox| for_projects(sandbox));
        let sandbox = sandbox.ok_or_else(|| BackendError::NotFound(container.to_owned()))?;
        let _turn = self.hosts.take(host.clone()).await;
        self.is_free(&sandbox, &host).await?;
        let mut ports = PORTS.to_vec();
        if !ports.contains(&port) {
            ports.push(port);
        }
        self.exposures.expose(&sandbox, &ports).await?;
        self.exposures.route(&sandbox, &host, port).await?;
        Ok(host)
    }

    /// Refuses a host that leads elsewhere: of two Ingresses with one host, which is
    /// heeded is any controller's own rule.
    async fn is_free(&self, sandbox: &Sandbox, host: &str) -> Result<(), BackendError> {
        let meta = &sandbox.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let own = meta.uid.as_deref().unwrap_or_default();
        for uid in self.exposures.led_to(namespace, host).await? {
            if uid == own {
                continue;
            }
            // Its Ingress goes with a sandbox that has gone, a moment later.
            let whose = match uid.as_str() {
                "" => Some("something that is not Hutch's".to_owned()),
                uid => self
                    .find(uid)
                    .await?
                    .and_then(|it| it.metadata.name.clone()),
            };
            if let Some(whose) = whose {
                let text = format!("{host} leads to {whose} already");
                return Err(BackendError::Domain(text));
            }
        }
        Ok(())
    }

    /// The sandbox of that name or UID, unless it is about to go. One that the cache
    /// does not have may have been made by another replica a moment ago.
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
        Ok(found.filter(|it| it.metadata.deletion_timestamp.is_none()))
    }

    async fn abandon(&self, name: &str) -> Result<(), ServiceError> {
        if let Some(sandbox) = self.sandboxes.fetch(name).await? {
            let uid = sandbox.metadata.uid.unwrap_or_default();
            self.sandboxes.delete(name, &uid).await?;
        }
        Ok(())
    }
}

/// Whether a sandbox is of this contract: a backend made it, or it works for a
/// project. A tenant's is not for who has a project's key.
fn for_projects(sandbox: &Sandbox) -> bool {
    annotation(sandbox, annotations::TITLE).is_some() || project_of(sandbox).is_some()
}

/// A sandbox on its way to a client that has not been told its name: it is deleted
/// where that comes to nothing, also because the client is gone.
struct Untold {
    service: Arc<Service>,
    name: Option<String>,
}

impl Drop for Untold {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let service = self.service.clone();
        tokio::spawn(async move {
            if let Err(error) = service.abandon(&name).await {
                tracing::warn!(sandbox = name, %error, "left behind: nobody knows its name");
            }
        });
    }
}

/// Whether a name is one of DNS (RFC 1123): labels of letters, digits and dashes.
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
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_of_dns() {
        assert!(is_host("a.example.com") && is_host("x-1.y"));
        for nonsense in [
            "", "a", "a..b", "-a.b", "a-.b", "a b.c", "a.b\n", "ü.b", "*.b", ".a",
        ] {
            assert!(!is_host(nonsense), "{nonsense:?}");
        }
        assert!(!is_host(&format!("{}.b", "a".repeat(64))));
    }
}
