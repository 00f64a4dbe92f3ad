//! The IDs of live mounts. Pure.

/// Namespace and name of a sandbox and of its pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
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
    pub key: ObjectKey,
    /// UID of the sandbox. A later sandbox with the same name has other mounts.
    pub uid: String,
    /// Name of the bucket's entry in the spec.
    pub bucket: String,
}

/// Prefix of the IDs of live mounts. The state directory stores these IDs.
const PREFIX: &str = "live";

impl MountId {
    /// Parses an ID. `None` if it is no live mount's.
    pub fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split('/');
        let mut next = || parts.next().map(str::to_owned);
        let prefix = next()?;
        let (namespace, name, uid, bucket) = (next()?, next()?, next()?, next()?);
        let key = ObjectKey { namespace, name };
        (prefix == PREFIX).then_some(Self { key, uid, bucket })
    }
}

impl std::fmt::Display for MountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ObjectKey { namespace, name }, uid) = (&self.key, &self.uid);
        write!(f, "{PREFIX}/{namespace}/{name}/{uid}/{}", self.bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_parsed_back() {
        let id = MountId {
            key: ObjectKey::new("n", "s"),
            uid: "u".into(),
            bucket: "b".into(),
        };
        assert_eq!(MountId::parse(&id.to_string()), Some(id));
        assert_eq!(MountId::parse("csi/n/s/u/b"), None);
        assert_eq!(MountId::parse("live/n"), None);
    }
}
