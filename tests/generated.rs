//! What is generated from the types is what the types say.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::path::Path;

use serde_json::Value;

/// Larger ones come near what an API server takes, and nobody reads them.
const LARGEST: usize = 40 << 10;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_manifests_in_crds_and_in_the_chart_are_those_of_the_types() {
    for crd in hutch::crd::definitions() {
        let wanted = serde_yaml_ng::to_string(&crd).unwrap();
        for folder in ["crds", "charts/hutch/files/crds"] {
            let path = format!("{folder}/{}.yaml", crd.spec.names.plural);
            assert!(
                read(&path) == wanted,
                "{path} is not up to date: run `make generate`"
            );
        }
        let (name, size) = (&crd.spec.names.plural, wanted.len());
        assert!(size < LARGEST, "{name} has {size} bytes");
    }
}

#[test]
fn every_field_of_the_resources_is_in_the_reference() {
    let reference = read("docs/crds.md");
    for crd in hutch::crd::definitions() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let properties = &schema["openAPIV3Schema"]["properties"];
        let mut fields = Vec::new();
        walk(&properties["spec"], "", &mut fields);
        walk(&properties["status"], "", &mut fields);
        assert!(fields.len() > 5, "the schema was not understood");
        for field in fields {
            assert!(
                reference.contains(&format!("`{field}`")),
                "docs/crds.md does not speak of {field}"
            );
        }
    }
}

/// The paths of all fields, as `workspace.size` or `env[].name`; what a
/// condition consists of is Kubernetes' own.
fn walk(schema: &Value, at: &str, fields: &mut Vec<String>) {
    if at.starts_with("conditions") {
        return;
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = match at {
            "" => name.clone(),
            at => format!("{at}.{name}"),
        };
        fields.push(path.clone());
        walk(field, &path, fields);
        walk(&field["items"], &format!("{path}[]"), fields);
    }
}
