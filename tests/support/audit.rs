//! What was written to the API server, as its own audit log tells.

use serde_json::Value;

use super::environment::Environment;

/// One write: verb, resource (with subresource) and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub verb: String,
    pub resource: String,
    pub name: String,
    pub agent: String,
    /// Who wrote: the impersonated user where there is one.
    pub user: String,
    /// When the API server received it (RFC 3339, so that texts compare).
    pub at: String,
}

/// Writes in a namespace by clients that are no part of Kubernetes, oldest
/// first; `None` where the cluster is not a test cluster.
pub fn writes(environment: &Environment, namespace: &str) -> Option<Vec<Write>> {
    let log = environment.cluster.as_ref()?.logs().join("audit.log");
    let log = std::fs::read_to_string(log).unwrap();
    let writes = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|entry| entry["objectRef"]["namespace"] == namespace)
        .filter(|entry| !matches!(entry["verb"].as_str(), Some("get" | "list" | "watch")))
        .map(|entry| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &entry["objectRef"];
            let mut resource = text(&object["resource"]);
            if let Some(sub) = object["subresource"].as_str() {
                resource = format!("{resource}/{sub}");
            }
            Write {
                verb: text(&entry["verb"]),
                resource,
                name: text(&object["name"]),
                agent: text(&entry["userAgent"]),
                user: match &entry["impersonatedUser"]["username"] {
                    Value::Null => text(&entry["user"]["username"]),
                    user => text(user),
                },
                at: text(&entry["requestReceivedTimestamp"]),
            }
        });
    Some(writes.collect())
}
