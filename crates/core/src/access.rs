//! Who may use the facade, and for what: API keys, what is stored of them, and
//! the principal that a request acts for. Pure; where keys are kept is decided in
//! `cluster`, how requests present them in `http`.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with, so that people and scanners know one.
const PREFIX: &str = "hutch_";
/// Random bytes of a key's id.
const ID: usize = 6;
/// Random bytes of a key's secret.
const SECRET: usize = 32;

/// Random bytes that a key is made of.
pub const RANDOM: usize = ID + SECRET;
/// Live keys of one tenant: the one in use, and the one that follows it.
pub const KEYS_PER_TENANT: usize = 2;

/// Digest by which a secret text is known.
pub type Fingerprint = [u8; 32];

/// One of the two contracts that a key is good for.
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
    /// Its name in entries and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Project => "project",
        }
    }
}

/// What a principal may ask for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second; as many at once where there were none for a second.
    pub rate: u32,
    /// Requests in progress.
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

/// Whom a request acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's tenant, or the name of the Kubernetes user.
    pub tenant: String,
    /// The key's id; none of a Kubernetes user.
    pub key: Option<String>,
    /// The only namespace whose sandboxes exist for it.
    pub namespace: String,
    /// The contracts that it may use.
    pub scopes: Vec<Scope>,
    /// What it may ask for at most.
    pub limits: Limits,
}

/// An API key, whole: `hutch_<id>_<secret>`, both in lower-case hex.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: String,
    text: String,
}

impl ApiKey {
    /// The key that these random bytes make.
    pub fn of(random: &[u8; RANDOM]) -> Self {
        let (id, secret) = random.split_at(ID);
        let id = hex(id);
        let text = format!("{PREFIX}{id}_{}", hex(secret));
        Self { id, text }
    }

    /// The key that a text is; `None` of any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let fits = is_hex(id, ID) && is_hex(secret, SECRET);
        fits.then(|| Self {
            id: id.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The part that may be seen.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole key, to be shown to its owner once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is stored of it.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.text)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}_***", self.id)
    }
}

/// SHA-256 of a secret text. That it is fast does no harm: what it is taken of
/// has 256 random bits, or is known by the API server.
pub fn fingerprint(text: &str) -> Fingerprint {
    Sha256::digest(text.as_bytes()).into()
}

/// What is stored of a key: the value under its id, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRecord {
    /// Whose the key is.
    pub tenant: String,
    /// Namespace of the tenant's sandboxes.
    pub namespace: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// Requests a second.
    pub rate: u32,
    /// Requests in progress.
    pub concurrency: u32,
    /// When it was made.
    pub created: Timestamp,
    sha256: String,
}

impl ApiKeyRecord {
    /// The entry of a new key.
    pub fn of(
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

    /// The entry that these bytes are.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let entry: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !is_tenant(&entry.tenant) {
            return Err("tenant is no name".to_owned());
        }
        if !is_namespace(&entry.namespace) {
            return Err("namespace is no name of a namespace".to_owned());
        }
        if entry.scopes.is_empty() || entry.rate == 0 || entry.concurrency == 0 {
            return Err("scopes, rate and concurrency must not be empty or zero".to_owned());
        }
        if !is_hex(&entry.sha256, 32) {
            return Err("sha256 is no SHA-256 in lower-case hex".to_owned());
        }
        Ok(entry)
    }

    /// Whether the key is the one that this entry was made for; takes as long
    /// wherever the two differ.
    pub fn is_of(&self, key: &ApiKey) -> bool {
        let given = hex(&key.fingerprint());
        self.sha256.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// Whom requests with the key of that id act for.
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

/// Whether a text can be the name of a tenant: at most 63 of letters, digits,
/// `.`, `_` and `-`.
pub fn is_tenant(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=63).contains(&name.len()) && name.bytes().all(fits)
}

/// Whether a text can be the name of a namespace (RFC 1123's labels).
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
        ApiKey::of(&[byte; RANDOM])
    }

    fn entry(key: &ApiKey) -> ApiKeyRecord {
        let limits = Limits::default();
        let whose = ("acme", "acme-ns");
        ApiKeyRecord::of(key, whose, &[Scope::Tenant], limits, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_key_is_what_it_was_made_of_and_nothing_like_it_is_one() {
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
    fn an_entry_knows_its_key_alone_and_tells_nothing_of_it() {
        let entry = entry(&key(1));
        assert!(entry.is_of(&key(1)) && !entry.is_of(&key(2)));
        let stored = serde_json::to_string(&entry).unwrap();
        let secret = key(1).reveal().rsplit('_').next().unwrap().to_owned();
        assert!(!stored.contains(&secret));
        assert!(!format!("{:?}", key(1)).contains(&secret));
        assert_eq!(ApiKeyRecord::parse(stored.as_bytes()), Ok(entry));
    }

    #[test]
    fn the_fingerprint_is_sha_256() {
        // printf abc | sha256sum
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&fingerprint("abc")), hash);
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_refused() {
        let good = serde_json::to_value(entry(&key(1))).unwrap();
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
