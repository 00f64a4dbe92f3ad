//! The API keys. One Secret in the operator's namespace has an entry per key, named
//! by the key's id. The facade reads the Secret from a watch; `hutch keys` edits it.
//! An entry has only the hash of its key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use thiserror::Error;

use hutch_api::{API_KEYS, MANAGED_BY, labels};
use hutch_core::access::{
    ApiKey, ApiKeyRecord, KEYS_PER_TENANT, Limits, Principal, RANDOM_BYTES, Scope,
};
use hutch_core::sync::Lock;
use hutch_kube::apply::{self, Writer};
use hutch_kube::watches::Cache;

/// Attempts to edit a Secret that others edit at the same time.
const MAX_ATTEMPTS: usize = 5;

/// The reason why the keys could not be edited.
#[derive(Debug, Error)]
pub enum ApiKeyError {
    /// A rule about tenants and their keys forbids it.
    #[error("{0}")]
    Refused(String),
    /// There is no key with this id.
    #[error("there is no key {0}: `hutch keys list` shows those that there are")]
    NotFound(String),
    /// The operating system supplied no random bytes.
    #[error("there are no random bytes: {0}")]
    Random(getrandom::Error),
    /// The API server refused the call or did not answer.
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

/// The entries by key id. An entry that cannot be used is an error text.
pub type ApiKeyEntries = BTreeMap<String, Result<ApiKeyRecord, String>>;

fn entries(secret: Option<&Secret>) -> ApiKeyEntries {
    let data = secret.and_then(|secret| secret.data.as_ref());
    let entry = |(id, value): (&String, &k8s_openapi::ByteString)| {
        (id.clone(), ApiKeyRecord::parse(&value.0))
    };
    data.into_iter().flatten().map(entry).collect()
}

/// The API keys in the cache, for the facade.
pub struct ApiKeyStore {
    cache: Cache<Secret>,
    namespace: String,
    parsed: Lock<ParsedSecret>,
}

/// The Secret that was parsed last, with its usable keys.
#[derive(Default)]
struct ParsedSecret {
    source: Option<Arc<Secret>>,
    keys: HashMap<String, (ApiKeyRecord, Arc<Principal>)>,
}

impl ApiKeyStore {
    /// `cache` must contain the Secret of `namespace`.
    pub fn new(cache: Cache<Secret>, namespace: String) -> Self {
        Self {
            cache,
            namespace,
            parsed: Lock::default(),
        }
    }

    /// True once the cache has been filled. Until then a missing key proves nothing.
    pub fn synced(&self) -> bool {
        self.cache.synced()
    }

    /// The principal of requests with `key`; `None` if the Secret has no such key.
    pub fn principal(&self, key: &ApiKey) -> Option<Arc<Principal>> {
        let secret = self.cache.get(&self.namespace, API_KEYS);
        let mut parsed = self.parsed.lock();
        if secret.as_ref().map(Arc::as_ptr) != parsed.source.as_ref().map(Arc::as_ptr) {
            *parsed = ParsedSecret::of(secret);
        }
        let (entry, principal) = parsed.keys.get(key.id())?;
        entry.matches(key).then(|| principal.clone())
    }
}

impl ParsedSecret {
    fn of(secret: Option<Arc<Secret>>) -> Self {
        let mut keys = HashMap::new();
        for (id, entry) in entries(secret.as_deref()) {
            match entry {
                Ok(entry) => {
                    let principal = Arc::new(entry.principal(&id));
                    keys.insert(id, (entry, principal));
                }
                Err(error) => {
                    tracing::warn!(secret = API_KEYS, key = id, error, "the key cannot be used");
                }
            }
        }
        Self {
            source: secret,
            keys,
        }
    }
}

/// The properties of a key to be created.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// The tenant that gets the key.
    pub tenant: String,
    /// Namespace of the tenant's sandboxes.
    pub namespace: String,
    /// The contracts that the key may use.
    pub scopes: Vec<Scope>,
    /// Limits of the requests with this key.
    pub limits: Limits,
}

/// Edits the API keys, for `hutch keys`.
pub struct ApiKeyEditor {
    writer: Writer,
    namespace: String,
}

impl ApiKeyEditor {
    /// An editor of the Secret in `namespace`.
    pub const fn new(writer: Writer, namespace: String) -> Self {
        Self { writer, namespace }
    }

    /// All entries, usable or not.
    ///
    /// # Errors
    /// [`ApiKeyError::Apply`].
    pub async fn list(&self) -> Result<ApiKeyEntries, ApiKeyError> {
        Ok(entries(self.read().await?.as_ref()))
    }

    /// Creates a key. A tenant has one namespace that no other tenant has, and at
    /// most [`KEYS_PER_TENANT`] keys.
    ///
    /// # Errors
    /// [`ApiKeyError::Refused`] if the key would break one of these rules, else
    /// [`ApiKeyError::Random`] or [`ApiKeyError::Apply`].
    pub async fn create(&self, new: &NewApiKey) -> Result<ApiKey, ApiKeyError> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(ApiKeyError::Random)?;
        let key = ApiKey::from_random(&random);
        let whose = (new.tenant.as_str(), new.namespace.as_str());
        let entry = ApiKeyRecord::new(&key, whose, &new.scopes, new.limits, Timestamp::now());
        let entry = json!(entry).to_string();
        for _ in 0..MAX_ATTEMPTS {
            let seen = self.read().await?;
            check_rules(new, &entries(seen.as_ref())).map_err(ApiKeyError::Refused)?;
            let written = match &seen {
                Some(seen) => {
                    let patch = json!({"stringData": {key.id(): entry}, "metadata": {}});
                    self.writer.merge(seen, patch).await
                }
                None => self.writer.create(&self.secret(key.id(), &entry)).await,
            };
            match written {
                Ok(_) => return Ok(key),
                Err(apply::Error::Stale(_) | apply::Error::AlreadyExists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(self.contended())
    }

    /// Revokes the key with this id and returns its entry; `None` if the entry was
    /// malformed.
    ///
    /// # Errors
    /// [`ApiKeyError::NotFound`] or [`ApiKeyError::Apply`].
    pub async fn revoke(&self, id: &str) -> Result<Option<ApiKeyRecord>, ApiKeyError> {
        for _ in 0..MAX_ATTEMPTS {
            let not_found = || ApiKeyError::NotFound(id.to_owned());
            let seen = self.read().await?.ok_or_else(not_found)?;
            let entry = entries(Some(&seen)).remove(id).ok_or_else(not_found)?;
            let patch = json!({"data": {id: null}, "metadata": {}});
            match self.writer.merge(&seen, patch).await {
                Ok(_) => return Ok(entry.ok()),
                Err(apply::Error::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(self.contended())
    }

    async fn read(&self) -> Result<Option<Secret>, apply::Error> {
        self.writer.read(&self.namespace, API_KEYS).await
    }

    fn secret(&self, id: &str, entry: &str) -> Secret {
        let ours = (labels::MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
        Secret {
            metadata: ObjectMeta {
                name: Some(API_KEYS.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some([ours].into()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            string_data: Some([(id.to_owned(), entry.to_owned())].into()),
            ..Secret::default()
        }
    }

    fn contended(&self) -> ApiKeyError {
        apply::Error::Stale(format!("Secret {}/{API_KEYS}", self.namespace)).into()
    }
}

/// Checks the rules of [`ApiKeyEditor::create`]. The error says which one the new key
/// would break.
fn check_rules(new: &NewApiKey, existing: &ApiKeyEntries) -> Result<(), String> {
    let usable = existing
        .iter()
        .filter_map(|(id, entry)| Some((id, entry.as_ref().ok()?)));
    let mut own = Vec::new();
    for (id, entry) in usable {
        let same_tenant = entry.tenant == new.tenant;
        let same_namespace = entry.namespace == new.namespace;
        if same_tenant && !same_namespace {
            let (tenant, namespace) = (&entry.tenant, &entry.namespace);
            return Err(format!(
                "the sandboxes of tenant {tenant} are in namespace {namespace}, as its key {id} \
                 says: a tenant has one namespace"
            ));
        }
        if same_namespace && !same_tenant {
            let (tenant, namespace) = (&entry.tenant, &entry.namespace);
            return Err(format!(
                "namespace {namespace} is that of tenant {tenant}: two tenants in one namespace \
                 would share their sandboxes"
            ));
        }
        if same_tenant {
            own.push(id.as_str());
        }
    }
    if own.len() >= KEYS_PER_TENANT {
        let (tenant, own) = (&new.tenant, own.join(" and "));
        return Err(format!(
            "tenant {tenant} has {KEYS_PER_TENANT} live keys, {own}: revoke one first"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn new(tenant: &str, namespace: &str) -> NewApiKey {
        NewApiKey {
            tenant: tenant.into(),
            namespace: namespace.into(),
            scopes: vec![Scope::Tenant],
            limits: Limits::default(),
        }
    }

    fn entry(byte: u8, new: &NewApiKey) -> (String, ApiKeyRecord) {
        let key = ApiKey::from_random(&[byte; RANDOM_BYTES]);
        let whose = (new.tenant.as_str(), new.namespace.as_str());
        let at = Timestamp::UNIX_EPOCH;
        (
            key.id().to_owned(),
            ApiKeyRecord::new(&key, whose, &new.scopes, new.limits, at),
        )
    }

    fn existing(all: &[(u8, &str, &str)]) -> ApiKeyEntries {
        let entry = |(byte, tenant, namespace): &(u8, &str, &str)| {
            let (id, entry) = entry(*byte, &new(tenant, namespace));
            (id, Ok(entry))
        };
        all.iter().map(entry).collect()
    }

    #[test]
    fn a_tenant_has_two_keys_at_most_and_a_namespace_of_its_own() {
        assert!(check_rules(&new("a", "x"), &existing(&[])).is_ok());
        assert!(check_rules(&new("a", "x"), &existing(&[(1, "a", "x"), (2, "b", "y")])).is_ok());
        let two = existing(&[(1, "a", "x"), (2, "a", "x")]);
        let third = check_rules(&new("a", "x"), &two).unwrap_err();
        assert!(third.contains("010101010101 and 020202020202"), "{third}");
        assert!(check_rules(&new("a", "y"), &existing(&[(1, "a", "x")])).is_err());
        assert!(check_rules(&new("b", "x"), &existing(&[(1, "a", "x")])).is_err());
    }

    #[test]
    fn a_malformed_entry_disables_itself_alone() {
        let (id, good) = entry(1, &new("a", "x"));
        let secret = Secret {
            data: Some(
                [
                    (id.clone(), ByteString(json!(good).to_string().into_bytes())),
                    ("other".to_owned(), ByteString(b"{".to_vec())),
                ]
                .into(),
            ),
            ..Secret::default()
        };
        let parsed = ParsedSecret::of(Some(Arc::new(secret)));
        assert_eq!(parsed.keys.keys().collect::<Vec<_>>(), [&id]);
    }
}
