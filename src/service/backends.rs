//! Sandboxes that a backend makes for a project which it has no row for yet: made
//! by name and language, reached by ports and a domain, ended by name or UID.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;
use tokio::time::Instant;

use super::target::Target;
use super::{Service, ServiceError};
use crate::crd::Sandbox;
use crate::domain::interfaces::ResourceError;

/// Where front ends listen in a sandbox, and back ends.
pub const PORTS: [u16; 2] = [5173, 8888];

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
    /// waits until it runs.
    ///
    /// # Errors
    /// See [`BackendError`].
    pub async fn create_backend(
        &self,
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
        let deadline = Instant::now() + self.settings.ready_timeout;
        self.acquire(&target, deadline).await?;
        let sandbox = self.living_backend(&target.name)?;
        let ports = self.exposures.expose(&sandbox, &PORTS).await?;
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
    /// whether nothing of that name is left: a pod of somebody else's stays.
    ///
    /// # Errors
    /// When the cluster does not take the deletion, or it is not done in time.
    pub async fn delete_backend(&self, container: &str) -> Result<bool, BackendError> {
        if let Ok(sandbox) = self.living_backend(container) {
            let name = sandbox.metadata.name.as_deref().unwrap_or_default();
            self.destroy(&Target::named(name)).await?;
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
        let sandbox = self.living_backend(container)?;
        let mut ports = PORTS.to_vec();
        if !ports.contains(&port) {
            ports.push(port);
        }
        self.exposures.expose(&sandbox, &ports).await?;
        self.exposures.route(&sandbox, &host, port).await?;
        Ok(host)
    }

    fn living_backend(&self, container: &str) -> Result<Arc<Sandbox>, BackendError> {
        let is_meant = |sandbox: &Arc<Sandbox>| {
            let meta = &sandbox.metadata;
            let names = [meta.name.as_deref(), meta.uid.as_deref()];
            meta.deletion_timestamp.is_none() && names.contains(&Some(container))
        };
        let found = self.sandboxes.all().into_iter().find(is_meant);
        found.ok_or_else(|| BackendError::NotFound(container.to_owned()))
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
