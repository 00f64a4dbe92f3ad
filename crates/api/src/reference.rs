//! The reference of the resources' fields in Markdown. It has the same text as the
//! definitions, so as `kubectl explain`, on one page.

use std::collections::HashSet;
use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::definitions;

const HEAD: &str = "# Fields of the resources

`make generate` writes this page from the types in `crates/api`. [crds.md](crds.md) explains
how the fields work together. The column of limits has the default of an optional field, if
there is one.
";

/// The whole page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for definition in definitions() {
        kind(&mut page, &definition);
    }
    page
}

fn kind(page: &mut String, definition: &CustomResourceDefinition) {
    let names = &definition.spec.names;
    let short = names.short_names.iter().flatten().next();
    let short = short.map_or(String::new(), |short| format!(" (`{short}`)"));
    let _ = write!(page, "\n## {}{short}\n", names.kind);
    let version = definition.spec.versions.first();
    let schema = version.and_then(|version| version.schema.as_ref());
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    let parts = schema.and_then(|schema| schema.properties.as_ref());
    for part in ["spec", "status"] {
        let Some(schema) = parts.and_then(|parts| parts.get(part)) else {
            continue;
        };
        let _ = write!(
            page,
            "\n### {}.{part}\n\n| field | type | limits | meaning |\n| --- | --- | --- | --- |\n",
            names.kind
        );
        fields(page, schema, "");
        let mut found = Vec::new();
        rules(schema, &mut found);
        let mut seen = HashSet::new();
        found.retain(|text| seen.insert(*text));
        if !found.is_empty() {
            page.push_str("\nBetween fields:\n\n");
        }
        for text in found {
            let _ = writeln!(page, "- {}", cell(text));
        }
    }
}

/// Writes a row for every field below `schema`, except the fields of conditions, which are
/// those of Kubernetes.
fn fields(page: &mut String, schema: &JSONSchemaProps, at: &str) {
    if at.starts_with("conditions") {
        return;
    }
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = match at {
            "" => name.clone(),
            at => format!("{at}.{name}"),
        };
        let mut limits = limits(field);
        if required.contains(name) {
            limits.insert(0, "required".to_owned());
        }
        let meaning = field.description.as_deref().unwrap_or_default();
        let _ = writeln!(
            page,
            "| `{path}` | {} | {} | {} |",
            type_of(field),
            limits.join("; "),
            cell(meaning)
        );
        fields(page, field, &path);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
            fields(page, items, &format!("{path}[]"));
        }
    }
}

fn type_of(field: &JSONSchemaProps) -> String {
    let name = field.type_.as_deref().unwrap_or("any");
    match (&field.items, &field.format) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => format!("{} list", type_of(items)),
        (_, Some(format)) if format == "date-time" => "time".to_owned(),
        _ => name.to_owned(),
    }
}

fn limits(field: &JSONSchemaProps) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(default) = &field.default {
        all.push(format!("default {}", value(&default.0)));
    }
    if let Some(values) = &field.enum_ {
        let values = values.iter().filter(|value| !value.0.is_null());
        let values: Vec<_> = values.map(|one| value(&one.0)).collect();
        all.push(values.join(", "));
    }
    let mut range = |least: Option<String>, most: Option<String>, of: &str| match (least, most) {
        (Some(least), Some(most)) => all.push(format!("{least} to {most}{of}")),
        (None, Some(most)) => all.push(format!("at most {most}{of}")),
        (Some(least), None) => all.push(format!("at least {least}{of}")),
        (None, None) => {}
    };
    let text = |number: Option<i64>| number.filter(|number| *number != 0).map(|n| n.to_string());
    let number = |number: Option<f64>| number.map(|number| number.to_string());
    range(number(field.minimum), number(field.maximum), "");
    range(
        text(field.min_length),
        text(field.max_length),
        " characters",
    );
    range(text(field.min_items), text(field.max_items), " entries");
    range(
        text(field.min_properties),
        text(field.max_properties),
        " entries",
    );
    if let Some(pattern) = &field.pattern {
        all.push(format!("`{}`", pattern.replace('|', "\\|")));
    }
    all
}

fn value(value: &serde_json::Value) -> String {
    match value.as_str() {
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
        None => format!("`{value}`"),
    }
}

/// The messages of the rules between fields.
fn rules<'a>(schema: &'a JSONSchemaProps, found: &mut Vec<&'a str>) {
    let own = schema.x_kubernetes_validations.iter().flatten();
    found.extend(own.filter_map(|rule| rule.message.as_deref()));
    for field in schema.properties.iter().flatten().map(|(_, field)| field) {
        rules(field, found);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &field.items {
            rules(items, found);
        }
    }
}

fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
