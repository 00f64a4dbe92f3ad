//! The API keys: one Secret in the operator's namespace with an entry per key,
//! under the key's id. The facade reads it from a watch, `hutch keys` edits it.
//! Of a key there is nothing but its hash.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use thiserror::Error;

use hutch_api::{API_KEYS, MANAGED_BY, labels};
use hutch_core::access::{Entry, KEYS_PER_TENANT, Key, Limits, Principal, RANDOM, Scope};
use hutch_kube::apply::{self, Writer};
use hutch_kube::watches::Cache;

/// How often an edit is tried on the Secret as it is by then.
const ATTEMPTS: usize = 5;

/// Why the keys could not be edited.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The rules of tenants and keys do not allow it.
    #[error("{0}")]
    Refused(String),
    /// There is no such key.
    #[error("there is no key {0}: `hutch keys list` shows those that there are")]
    NotFound(String),
    /// The operating system has no random bytes.
    #[error("there are no random bytes: {0}")]
    Random(getrandom::Error),
    /// The API server does not take it.
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

/// An entry by its key's id, or what is wrong with it.
pub type Entries = BTreeMap<String, Result<Entry, String>>;

fn entries(secret: Option<&Secret>) -> Entries {
    let data = secret.and_then(|secret| secret.data.as_ref());
    let entry =
        |(id, value): (&String, &k8s_openapi::ByteString)| (id.clone(), Entry::parse(&value.0));
    data.into_iter().flatten().map(entry).collect()
}

/// The keys as the facade knows them.
pub struct KeyRing {
    cache: Cache<Secret>,
    namespace: String,
    read: Mutex<Reading>,
}

/// The Secret that was read last, and what was in it.
#[derive(Default)]
struct Reading {
    of: Option<Arc<Secret>>,
    keys: HashMap<String, (Entry, Arc<Principal>)>,
}

impl KeyRing {
    /// Over a cache of the Secret in that namespace.
    pub fn new(cache: Cache<Secret>, namespace: String) -> Self {
        let read = Mutex::default();
        Self {
            cache,
            namespace,
            read,
        }
    }

    /// Whether the Secret has been looked for.
    pub fn synced(&self) -> bool {
        self.cache.synced()
    }

    /// Whom requests with that key act for, as long as it is live.
    pub fn principal(&self, key: &Key) -> Option<Arc<Principal>> {
        let secret = self.cache.get(&self.namespace, API_KEYS);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if secret.as_ref().map(Arc::as_ptr) != read.of.as_ref().map(Arc::as_ptr) {
            *read = Reading::of(secret);
        }
        let (entry, principal) = read.keys.get(key.id())?;
        entry.is_of(key).then(|| principal.clone())
    }
}

impl Reading {
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
        Self { of: secret, keys }
    }
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose it is.
    pub tenant: String,
    /// Namespace of the tenant's sandboxes.
    pub namespace: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// What it may ask for.
    pub limits: Limits,
}

/// The keys as `hutch keys` edits them.
pub struct KeyEditor {
    writer: Writer,
    namespace: String,
}

impl KeyEditor {
    /// Edits the Secret in that namespace with `writer`.
    pub const fn new(writer: Writer, namespace: String) -> Self {
        Self { writer, namespace }
    }

    /// All entries.
    ///
    /// # Errors
    /// The API server's.
    pub async fn list(&self) -> Result<Entries, KeyError> {
        Ok(entries(self.read().await?.as_ref()))
    }

    /// Makes a key. A tenant has one namespace, which is no other tenant's, and
    /// at most [`KEYS_PER_TENANT`] keys.
    ///
    /// # Errors
    /// When that would not be so any more, or the API server does not take it.
    pub async fn create(&self, new: &NewKey) -> Result<Key, KeyError> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random).map_err(KeyError::Random)?;
        let key = Key::of(&random);
        let whose = (new.tenant.as_str(), new.namespace.as_str());
        let entry = Entry::of(&key, whose, &new.scopes, new.limits, Timestamp::now());
        let entry = json!(entry).to_string();
        for _ in 0..ATTEMPTS {
            let seen = self.read().await?;
            fits(new, &entries(seen.as_ref())).map_err(KeyError::Refused)?;
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

    /// Takes the key of that id back, and returns what it was.
    ///
    /// # Errors
    /// When there is none, or the API server does not take it.
    pub async fn revoke(&self, id: &str) -> Result<Option<Entry>, KeyError> {
        for _ in 0..ATTEMPTS {
            let not_found = || KeyError::NotFound(id.to_owned());
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

    fn contended(&self) -> KeyError {
        apply::Error::Stale(format!("Secret {}/{API_KEYS}", self.namespace)).into()
    }
}

/// Why the key would break the rules beside those that there are, if it would.
fn fits(new: &NewKey, there: &Entries) -> Result<(), String> {
    let live = there
        .iter()
        .filter_map(|(id, entry)| Some((id, entry.as_ref().ok()?)));
    let mut own = Vec::new();
    for (id, entry) in live {
        let (same, beside) = (entry.tenant == new.tenant, entry.namespace == new.namespace);
        if same && !beside {
            let (tenant, namespace) = (&entry.tenant, &entry.namespace);
            return Err(format!(
                "the sandboxes of tenant {tenant} are in namespace {namespace}, as its key {id} \
                 says: a tenant has one namespace"
            ));
        }
        if beside && !same {
            let (tenant, namespace) = (&entry.tenant, &entry.namespace);
            return Err(format!(
                "namespace {namespace} is that of tenant {tenant}: two tenants in one namespace \
                 would share their sandboxes"
            ));
        }
        if same {
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

    fn new(tenant: &str, namespace: &str) -> NewKey {
        NewKey {
            tenant: tenant.into(),
            namespace: namespace.into(),
            scopes: vec![Scope::Tenant],
            limits: Limits::default(),
        }
    }

    fn entry(byte: u8, new: &NewKey) -> (String, Entry) {
        let key = Key::of(&[byte; RANDOM]);
        let whose = (new.tenant.as_str(), new.namespace.as_str());
        let at = Timestamp::UNIX_EPOCH;
        (
            key.id().to_owned(),
            Entry::of(&key, whose, &new.scopes, new.limits, at),
        )
    }

    fn there(all: &[(u8, &str, &str)]) -> Entries {
        let entry = |(byte, tenant, namespace): &(u8, &str, &str)| {
            let (id, entry) = entry(*byte, &new(tenant, namespace));
            (id, Ok(entry))
        };
        all.iter().map(entry).collect()
    }

    #[test]
    fn a_tenant_has_two_keys_at_most_and_a_namespace_of_its_own() {
        assert!(fits(&new("a", "x"), &there(&[])).is_ok());
        assert!(fits(&new("a", "x"), &there(&[(1, "a", "x"), (2, "b", "y")])).is_ok());
        let two = there(&[(1, "a", "x"), (2, "a", "x")]);
        let third = fits(&new("a", "x"), &two).unwrap_err();
        assert!(third.contains("010101010101 and 020202020202"), "{third}");
        assert!(fits(&new("a", "y"), &there(&[(1, "a", "x")])).is_err());
        assert!(fits(&new("b", "x"), &there(&[(1, "a", "x")])).is_err());
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
        let reading = Reading::of(Some(Arc::new(secret)));
        assert_eq!(reading.keys.keys().collect::<Vec<_>>(), [&id]);
    }
}
