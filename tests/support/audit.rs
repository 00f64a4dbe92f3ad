//! The writes to the API server, as its audit log records them.

use serde_json::Value;

use super::environment::Environment;

/// One write: verb, resource (with subresource) and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub verb: String,
    pub resource: String,
    pub name: String,
    pub agent: String,
    /// The user who wrote: the impersonated one, if there is one.
    pub user: String,
    /// When the API server received it (RFC 3339, so that texts compare).
    pub at: String,
}

/// Writes in a namespace by clients that are no part of Kubernetes, oldest first.
///
/// # Panics
/// If the cluster is not the test cluster.
pub fn writes(environment: &Environment, namespace: &str) -> Vec<Write> {
    let log = environment.require_test_cluster().logs().join("audit.log");
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
    writes.collect()
}
