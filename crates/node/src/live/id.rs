//! What a mount of the live door is called: by whose bucket it is. Pure.

/// A sandbox's namespace and name, which are its pod's, too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One bucket of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountId {
    pub key: Key,
    /// UID of the sandbox: another of its name has other mounts.
    pub uid: String,
    /// The bucket, as the spec names it.
    pub bucket: String,
}

/// What ids of this door begin with.
const DOOR: &str = "live";

impl MountId {
    /// None where the id is another door's.
    pub fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split('/');
        let mut next = || parts.next().map(str::to_owned);
        let door = next()?;
        let (namespace, name, uid, bucket) = (next()?, next()?, next()?, next()?);
        let key = Key { namespace, name };
        (door == DOOR).then_some(Self { key, uid, bucket })
    }
}

impl std::fmt::Display for MountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Key { namespace, name } = &self.key;
        write!(f, "{DOOR}/{namespace}/{name}/{}/{}", self.uid, self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_whose_bucket_it_is() {
        let id = MountId {
            key: Key::new("n", "s"),
            uid: "u".into(),
            bucket: "b".into(),
        };
        assert_eq!(MountId::parse(&id.to_string()), Some(id));
        assert_eq!(MountId::parse("csi/n/s/u/b"), None);
        assert_eq!(MountId::parse("live/n"), None);
    }
}
