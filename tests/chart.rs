//! Checks of the chart's files that need neither Helm nor a cluster.

#![allow(clippy::panic, clippy::unwrap_used)]

use serde_json::Value;

/// Paths of all values below `value`, as the table in the chart's README writes them.
fn paths(path: &str, value: &Value, all: &mut Vec<String>) {
    let parts = match value {
        // Resources are one value. Sizes and labels have keys of the user's choice.
        Value::Object(parts) if !is_whole(path) && !parts.is_empty() => parts,
        _ => return all.push(path.to_owned()),
    };
    for (key, part) in parts {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        paths(&path, part, all);
    }
}

fn is_whole(path: &str) -> bool {
    path == "sizes" || path.ends_with("resources") || path.ends_with("labels")
}

#[test]
fn the_charts_readme_has_every_value() {
    let values = include_str!("../charts/hutch/values.yaml");
    let values: Value = serde_yaml_ng::from_str(values).unwrap();
    let table = include_str!("../charts/hutch/README.md");
    let mut all = Vec::new();
    paths("", &values, &mut all);
    paths("tenants[]", &values["tenants"][0], &mut all);
    assert!(all.len() > 60, "the values were not found");
    for path in all {
        let row = format!("\n| `{path}` |");
        assert!(table.contains(&row), "README.md lacks {path}");
    }
}
