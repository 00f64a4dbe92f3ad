//! The OpenAPI files and the routers list the same operations, and each `$ref`
//! has a target.

#![allow(clippy::expect_used)] // clippy.toml allows it in test functions, but not in their helpers

use std::collections::BTreeSet;

use hutch_facade::{PROJECT_ROUTES, TENANT_ROUTES};
use serde_json::Value;

type Operations = BTreeSet<(String, String)>;

fn document(text: &str) -> Value {
    serde_yaml_ng::from_str(text).expect("the file is YAML")
}

fn described(document: &Value) -> Operations {
    let methods = [
        "get", "put", "post", "delete", "options", "head", "patch", "trace",
    ];
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let keys = item.as_object().expect("a path item").keys();
        let keys = keys.filter(|key| methods.contains(&key.as_str()));
        keys.map(|key| (key.to_uppercase(), path.clone()))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

fn served(routes: &[(&str, &str)]) -> Operations {
    let owned = |(method, path): &(&str, &str)| ((*method).to_owned(), (*path).to_owned());
    routes.iter().map(owned).collect()
}

fn check_references(root: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = target.strip_prefix('#').expect("a local $ref");
                assert!(root.pointer(pointer).is_some(), "{target} does not exist");
            }
            fields
                .values()
                .for_each(|field| check_references(root, field));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(root, item)),
        _ => {}
    }
}

fn check(text: &str, routes: &[(&str, &str)]) {
    let document = document(text);
    assert_eq!(described(&document), served(routes));
    check_references(&document, &document);
}

#[test]
fn the_tenant_file_lists_the_routes_of_the_tenant_router() {
    check(
        include_str!("../../../docs/openapi/tenant.yaml"),
        TENANT_ROUTES,
    );
}

#[test]
fn the_project_file_lists_the_routes_of_the_project_router() {
    check(
        include_str!("../../../docs/openapi/project.yaml"),
        PROJECT_ROUTES,
    );
}
