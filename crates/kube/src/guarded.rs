//! An object that may not decode.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, or its metadata and the error if it does not decode as `K`. A list or a watch
/// of it goes on at such an object.
///
/// kube's `DeserializeGuard` does the same. It decodes `K` from another format than JSON and
/// needs a second copy of the decoders of all kinds: 1.7 MB of `hutch`. This type decodes
/// `K` from a `str` of JSON, as kube's client does, so both use one copy.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, InvalidObject>);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = serde_json::to_string(&value).map_err(D::Error::custom)?;
        let decoded = serde_json::from_str(&text).map_err(|error| error.to_string());
        decoded.map_or_else(
            |error| {
                let metadata = ObjectMeta::deserialize(&value["metadata"]);
                let metadata = metadata.map_err(D::Error::custom)?;
                Ok(Self(Err(InvalidObject { error, metadata })))
            },
            |object| Ok(Self(Ok(object))),
        )
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0
            .as_ref()
            .map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use hutch_api::Sandbox;

    fn decode(value: Value) -> Result<Guarded<Sandbox>, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn an_object_that_does_not_decode_keeps_its_metadata() {
        let metadata = json!({ "name": "a", "uid": "1", "resourceVersion": "7" });
        let status = json!({ "phase": "Dreaming" });
        let guarded = decode(json!({ "metadata": metadata, "spec": {}, "status": status }));
        let guarded = guarded.unwrap();
        assert_eq!(guarded.meta().resource_version.as_deref(), Some("7"));
        assert!(guarded.0.unwrap_err().error.contains("Dreaming"));
        let guarded = decode(json!({ "metadata": metadata, "spec": {} })).unwrap();
        assert_eq!(guarded.meta().uid.as_deref(), Some("1"));
        assert!(guarded.0.is_ok());
    }

    #[test]
    fn text_without_metadata_is_an_error() {
        assert!(decode(json!({ "spec": 1 })).is_err() && decode(json!([])).is_err());
    }
}
