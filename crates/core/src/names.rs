//! Names of Kubernetes objects. Most are derived from other names, so that a repeated create
//! fails with `AlreadyExists` and no second object appears.

use sha2::{Digest, Sha256};

/// Most characters of the readable part of a sandbox's name.
const SLUG: usize = 40;
/// Characters of the digest. Its 80 bits make it infeasible to find two IDs with one name.
const DIGEST: usize = 16;

/// Name of the Sandbox resource for a sandbox ID of a REST client.
///
/// Any string is an ID. Two IDs have the same name only if their 80-bit digests are equal.
/// The readable part is for people. The result is a DNS label of at most 57 characters.
pub fn sandbox(id: &str) -> String {
    format!("{}-{}", slug(id), digest(id.as_bytes(), DIGEST))
}

/// Name of a conversation's own sandbox. It differs from [`sandbox`] for every ID.
pub fn conversation(id: &str) -> String {
    let kind = [b"conversation\0", id.as_bytes()].concat();
    format!("{}-{}", slug(id), digest(&kind, DIGEST))
}

/// Name of the sandbox that Hutch creates for a project, and of its pod. Only Hutch writes
/// this name into the project's row.
pub fn project(id: &str) -> String {
    let kind = [b"project\0", id.as_bytes()].concat();
    format!("{}-{}", slug(id), digest(&kind, DIGEST))
}

/// Name of a sandbox with a title. Several sandboxes may have the same title, so `unique` is
/// random.
pub fn titled(title: &str, unique: &str) -> String {
    let kind = [b"titled\0", unique.as_bytes()].concat();
    format!("{}-{}", slug(title), digest(&kind, DIGEST))
}

/// True if the text can be the name of an object (a DNS subdomain, RFC 1123). Check a name
/// before it becomes part of a URL's path.
pub fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let edge = |c: &u8| c.is_ascii_alphanumeric();
    text.len() <= 253
        && text.chars().all(inner)
        && text.as_bytes().first().is_some_and(edge)
        && text.as_bytes().last().is_some_and(edge)
}

/// The readable part of a name.
fn slug(id: &str) -> String {
    let mut slug = String::with_capacity(SLUG);
    for c in id.chars().flat_map(char::to_lowercase) {
        if slug.len() == SLUG {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    match slug.trim_end_matches('-') {
        "" => "sandbox".to_owned(),
        slug => slug.to_owned(),
    }
}

/// Name of the SandboxSession for a session that was created over REST. At most 63
/// characters, of which up to 46 come from the sandbox's name.
pub fn session(sandbox: &str, id: &str) -> String {
    let both = [sandbox.as_bytes(), id.as_bytes()].join(&0);
    let stem = &sandbox[..sandbox.len().min(46)];
    format!("{}-{}", stem.trim_end_matches('-'), digest(&both, DIGEST))
}

/// Name of a sandbox's pod: the sandbox's own. The API server keeps names unique, so one
/// sandbox cannot have two live pods.
pub fn pod(sandbox: &str) -> String {
    sandbox.to_owned()
}

/// Name of the claim of a sandbox's workspace. It depends on the sandbox's UID, so that a
/// retained or terminating claim of an earlier sandbox with the same name does not
/// conflict.
pub fn claim(sandbox: &str, uid: &str) -> String {
    format!("{sandbox}-{}", digest(uid.as_bytes(), 8))
}

/// Name in the spec of a bucket that was mounted at `path` over REST. At most 55
/// characters.
pub fn bucket(path: &str) -> String {
    let stem = slug(path);
    format!("{stem}-{}", digest(path.as_bytes(), 8))
}

/// Name of the Secret with the S3 credentials of a live mount. `unique` is random, so that
/// no two mounts share a Secret. At most 63 characters.
pub fn bucket_secret(sandbox: &str, unique: &str) -> String {
    let stem = &sandbox[..sandbox.len().min(46)];
    let unique = digest(unique.as_bytes(), DIGEST);
    format!("{}-{unique}", stem.trim_end_matches('-'))
}

/// Name of the pod's volume of a bucket that comes through CSI.
pub fn bucket_volume(bucket: &str) -> String {
    format!("bucket-{bucket}")
}

/// Name of the claim of a bucket that comes through CSI. `source` says what is mounted and
/// with which credentials, `mode` how. The claims of one source differ in the last part
/// only.
pub fn bucket_claim(source: &str, mode: &str) -> String {
    let mode = digest(mode.as_bytes(), 4);
    format!("bucket-{}-{mode}", digest(source.as_bytes(), DIGEST))
}

/// Prefix of the names of the volumes of buckets.
pub const BUCKET_PV: &str = "hutch-bucket-";

/// Name of that claim's volume. It belongs to one namespace of the cluster.
pub fn bucket_pv(namespace_uid: &str, source: &str, mode: &str) -> String {
    let all = [namespace_uid, source, mode].join("\0");
    format!("{BUCKET_PV}{}", digest(all.as_bytes(), 26))
}

/// The first `length` characters (at most 51) of a SHA-256 in lower-case base 32
/// (alphabet of RFC 4648). They fit every kind of Kubernetes name and label.
pub fn digest(bytes: &[u8], length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = Sha256::digest(bytes);
    (0..length)
        .map(|i| {
            let bit = i * 5;
            let pair = u16::from(hash[bit / 8]) << 8 | u16::from(hash[(bit / 8 + 1).min(31)]);
            let index = pair >> (11 - bit % 8) & 31;
            char::from(ALPHABET[usize::from(index)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is_dns_label(name: &str) -> bool {
        name.len() <= 63
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !name.starts_with('-')
            && !name.ends_with('-')
    }

    #[test]
    fn every_id_has_its_own_valid_name() {
        let long = "x".repeat(300);
        let ids = [
            "A",
            "a",
            "a.b",
            "a-b",
            "用户/1",
            "-x",
            "x",
            "",
            " ",
            "sb-123",
            &long,
            "user_42/Alice",
        ];
        let kinds = [sandbox, conversation, project];
        let names = kinds.iter().flat_map(|kind| ids.iter().map(|id| kind(id)));
        let names: HashSet<_> = names.collect();
        assert_eq!(names.len(), 3 * ids.len());
        for name in &names {
            assert!(is_dns_label(name), "{name}");
            assert!(is_dns_label(&claim(
                &name[..name.len().min(54)].replace("--", "-"),
                "uid"
            )));
        }
    }

    #[test]
    fn every_session_of_every_sandbox_has_its_own_name() {
        let long = "x".repeat(63);
        let pairs = [
            ("a", "b"),
            ("a", "B"),
            ("a-b", ""),
            ("a", "-b"),
            (&long, "b"),
        ];
        let names: HashSet<_> = pairs.iter().map(|(one, two)| session(one, two)).collect();
        assert_eq!(names.len(), pairs.len());
        assert!(names.iter().all(|name| is_dns_label(name)), "{names:?}");
    }

    #[test]
    fn no_sandbox_id_has_the_name_of_a_project() {
        assert!(is_dns_label(&project("P 1/用")) && project("P 1/用").starts_with("p-1-"));
        assert_ne!(project("p"), sandbox("p"));
        assert_ne!(project("p"), project("P"));
    }

    #[test]
    fn the_claims_of_one_bucket_and_its_keys_differ_in_their_end_only() {
        let (rw, ro) = (bucket_claim("a", "rw"), bucket_claim("a", "ro"));
        assert_ne!(rw, ro);
        assert_eq!(
            rw.rsplit_once('-').unwrap().0,
            ro.rsplit_once('-').unwrap().0
        );
        assert_ne!(bucket_claim("b", "rw"), rw);
        assert_ne!(bucket_pv("u", "a", "rw"), bucket_pv("v", "a", "rw"));
        assert!(is_dns_label(&rw) && is_dns_label(&bucket_pv("u", "a", "rw")));
    }

    #[test]
    fn a_name_begins_with_the_readable_part_of_its_id() {
        assert!(sandbox("user_42/Alice").starts_with("user-42-alice-"));
        assert!(sandbox("用户").starts_with("sandbox-"));
    }

    #[test]
    fn the_digest_is_rfc_4648_base_32() {
        // printf abc | sha256sum | xxd -r -p | base32
        assert_eq!(digest(b"abc", 16), "xj4bnp4pahh6uqkb");
    }

    #[test]
    fn only_dns_subdomains_are_names() {
        assert!(is_name("alice-xj4b") && is_name("a.b"));
        for text in [
            "",
            "../secrets/x",
            "a/exec",
            "a?b",
            "-a",
            "a.",
            "Übung",
            "a b",
        ] {
            assert!(!is_name(text), "{text}");
        }
    }
}
