//! API keys, their stored records, and the principal of a request. The store of the records
//! is in `hutch-store`. The facade reads keys from requests.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Prefix of every key, so that people and secret scanners recognize one.
const PREFIX: &str = "hutch_";
/// Random bytes of a key's ID.
const ID_BYTES: usize = 6;
/// Random bytes of a key's secret.
const SECRET_BYTES: usize = 32;

/// Random bytes of a key, ID and secret together.
pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;
/// Most keys of one tenant: the present one and its successor.
pub const KEYS_PER_TENANT: usize = 2;

/// SHA-256 of a secret text.
pub type Fingerprint = [u8; 32];

/// A contract that a key may use.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The tenant API.
    Tenant,
    /// The project API.
    Project,
}

impl Scope {
    /// The name in records and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Project => "project",
        }
    }
}

/// The limits of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second. Unused requests of one second may follow as a burst.
    pub rate: u32,
    /// Requests in progress at the same time.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate: 100,
            concurrency: 32,
        }
    }
}

/// The tenant or user that a request acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's tenant, or the name of the Kubernetes user.
    pub tenant: String,
    /// The key's ID. `None` for a Kubernetes user.
    pub key: Option<String>,
    /// The only namespace that the principal sees.
    pub namespace: String,
    /// The contracts that the principal may use.
    pub scopes: Vec<Scope>,
    /// The limits of its requests.
    pub limits: Limits,
}

/// An API key: `hutch_<id>_<secret>`, both in lower-case hex. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: String,
    text: String,
}

impl ApiKey {
    /// The key made of these random bytes.
    pub fn from_random(random: &[u8; RANDOM_BYTES]) -> Self {
        let (id, secret) = random.split_at(ID_BYTES);
        let id = hex(id);
        let text = format!("{PREFIX}{id}_{}", hex(secret));
        Self { id, text }
    }

    /// Parses a key. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let fits = is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES);
        fits.then(|| Self {
            id: id.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The ID, which is not secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole key. Show it to its owner once and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The stored form of the key.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.text)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}_***", self.id)
    }
}

/// SHA-256 of a secret text. A slow hash is not needed: a key has 256 random bits, and the
/// API server knows the tokens.
pub fn fingerprint(text: &str) -> Fingerprint {
    Sha256::digest(text.as_bytes()).into()
}

/// The stored record of a key, in JSON. The key of the record is the ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRecord {
    /// The tenant that owns the key.
    pub tenant: String,
    /// Namespace of the tenant's sandboxes.
    pub namespace: String,
    /// The contracts that the key may use.
    pub scopes: Vec<Scope>,
    /// Requests per second.
    pub rate: u32,
    /// Requests in progress.
    pub concurrency: u32,
    /// Time of creation.
    pub created: Timestamp,
    sha256: String,
}

impl ApiKeyRecord {
    /// The record of a new key.
    pub fn new(
        key: &ApiKey,
        (tenant, namespace): (&str, &str),
        scopes: &[Scope],
        limits: Limits,
        created: Timestamp,
    ) -> Self {
        Self {
            tenant: tenant.to_owned(),
            namespace: namespace.to_owned(),
            scopes: scopes.to_vec(),
            rate: limits.rate,
            concurrency: limits.concurrency,
            created,
            sha256: hex(&key.fingerprint()),
        }
    }

    /// Parses a stored record.
    ///
    /// # Errors
    /// When it is no JSON of this form, or has a field without meaning. The text names the
    /// field.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !is_tenant(&record.tenant) {
            return Err("tenant is no name".to_owned());
        }
        if !is_namespace(&record.namespace) {
            return Err("namespace is no name of a namespace".to_owned());
        }
        if record.scopes.is_empty() || record.rate == 0 || record.concurrency == 0 {
            return Err("scopes, rate and concurrency must not be empty or zero".to_owned());
        }
        if !is_hex(&record.sha256, 32) {
            return Err("sha256 is no SHA-256 in lower-case hex".to_owned());
        }
        Ok(record)
    }

    /// True if this is the record of the key. The comparison takes constant time.
    pub fn matches(&self, key: &ApiKey) -> bool {
        let given = hex(&key.fingerprint());
        self.sha256.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// The principal of requests with the key that has this ID.
    pub fn principal(&self, id: &str) -> Principal {
        Principal {
            tenant: self.tenant.clone(),
            key: Some(id.to_owned()),
            namespace: self.namespace.clone(),
            scopes: self.scopes.clone(),
            limits: Limits {
                rate: self.rate,
                concurrency: self.concurrency,
            },
        }
    }
}

/// True if the text can be the name of a tenant: 1 to 63 letters, digits, `.`, `_` and `-`.
pub fn is_tenant(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=63).contains(&name.len()) && name.bytes().all(fits)
}

/// True if the text can be the name of a namespace (a label of RFC 1123).
pub fn is_namespace(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(fits)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_hex(text: &str, bytes: usize) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 2 * bytes && text.bytes().all(digit)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> ApiKey {
        ApiKey::from_random(&[byte; RANDOM_BYTES])
    }

    fn record(key: &ApiKey) -> ApiKeyRecord {
        let limits = Limits::default();
        let whose = ("acme", "acme-ns");
        ApiKeyRecord::new(key, whose, &[Scope::Tenant], limits, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_the_exact_text_of_a_key_is_parsed() {
        let made = key(0xab);
        let text = made.reveal();
        assert_eq!(text.len(), 6 + 12 + 1 + 64);
        assert_eq!(ApiKey::parse(text), Some(made.clone()));
        assert_eq!(made.id(), "abababababab");
        let cut = &text[..text.len() - 1];
        let longer = format!("{text}0");
        let upper = text.to_uppercase();
        let spaced = format!(" {text}");
        let swapped = text.replace("hutch_", "hutch-");
        for other in [
            "", "hutch_", "hutch__", cut, &longer, &upper, &spaced, &swapped,
        ] {
            assert_eq!(ApiKey::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_record_matches_its_key_only_and_does_not_contain_it() {
        let record = record(&key(1));
        assert!(record.matches(&key(1)) && !record.matches(&key(2)));
        let stored = serde_json::to_string(&record).unwrap();
        let secret = key(1).reveal().rsplit('_').next().unwrap().to_owned();
        assert!(!stored.contains(&secret));
        assert!(!format!("{:?}", key(1)).contains(&secret));
        assert_eq!(ApiKeyRecord::parse(stored.as_bytes()), Ok(record));
    }

    #[test]
    fn the_fingerprint_is_sha_256() {
        // printf abc | sha256sum
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&fingerprint("abc")), hash);
    }

    #[test]
    fn a_record_with_a_field_without_meaning_is_rejected() {
        let good = serde_json::to_value(record(&key(1))).unwrap();
        for (field, value) in [
            ("tenant", serde_json::json!("")),
            ("tenant", serde_json::json!("a b")),
            ("namespace", serde_json::json!("../x")),
            ("namespace", serde_json::json!("UPPER")),
            ("scopes", serde_json::json!([])),
            ("scopes", serde_json::json!(["admin"])),
            ("rate", serde_json::json!(0)),
            ("rate", serde_json::json!(-1)),
            ("concurrency", serde_json::json!(0)),
            ("sha256", serde_json::json!("00")),
            ("created", serde_json::json!("yesterday")),
            ("more", serde_json::json!(1)),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let bytes = bad.to_string();
            assert!(ApiKeyRecord::parse(bytes.as_bytes()).is_err(), "{bad}");
        }
        assert!(ApiKeyRecord::parse(b"").is_err() && ApiKeyRecord::parse(b"[]").is_err());
    }
}
