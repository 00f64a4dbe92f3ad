//! The rights that a release of the chart has, and those that it has used according to the
//! API server's audit log.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;

use super::chart::Release;

/// Component, API group, resource with subresource, and verb.
pub type Right = (String, String, String, String);

/// The permissions of the roles of these components.
pub async fn given(release: &Release, components: &[&str]) -> BTreeSet<Right> {
    let (client, name) = (&release.home.client, release.name());
    let own = ListParams::default().labels(&format!("app.kubernetes.io/instance={name}"));
    let everywhere = Api::<ClusterRole>::all(client.clone());
    let at_home = Api::<Role>::namespaced(client.clone(), name);
    let everywhere = everywhere.list(&own).await.unwrap().items.into_iter();
    let at_home = at_home.list(&own).await.unwrap().items.into_iter();
    let roles = everywhere
        .map(|role| (role.name_any(), role.rules))
        .chain(at_home.map(|role| (role.name_any(), role.rules)));
    let mut rights = BTreeSet::new();
    for (role, rules) in roles {
        let component = components.iter().find(|component| {
            let own = format!("{}-{component}", release.fullname());
            role == own || role.starts_with(&format!("{own}-"))
        });
        if let Some(component) = component {
            let rules = rules.unwrap_or_default();
            rights.extend(rules.iter().flat_map(|rule| all(component, rule)));
        }
    }
    rights
}

fn all(component: &str, rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                let right = [component, group, resource, verb].map(ToString::to_string);
                rights.push(right.into());
            }
        }
    }
    rights
}

/// The rights that these components have used, and the requests that were forbidden.
pub fn used(release: &Release, components: &[&str]) -> (BTreeSet<Right>, Vec<Value>) {
    let cluster = release.home.environment.require_test_cluster();
    let log = cluster.logs().join("audit.log");
    let log = std::fs::read_to_string(log).unwrap();
    let name = release.name();
    let (mut rights, mut forbidden) = (BTreeSet::new(), Vec::new());
    for line in log.lines() {
        // The log of a whole test run is long, and few of its lines are ours.
        if !line.contains(name) {
            continue;
        }
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let user = entry["user"]["username"].as_str().unwrap_or_default();
        let own = release.user("");
        let component = user.strip_prefix(&own).unwrap_or_default();
        let object = &entry["objectRef"];
        if !components.contains(&component) || object.is_null() {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut resource = text(&object["resource"]);
        if let Some(sub) = object["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        // Admission also answers 403. Only decisions of RBAC count.
        let decision = &entry["annotations"]["authorization.k8s.io/decision"];
        if decision == "forbid" {
            forbidden.push(object.clone());
        }
        let (group, verb) = (text(&object["apiGroup"]), text(&entry["verb"]));
        rights.insert((component.to_owned(), group, resource, verb));
    }
    (rights, forbidden)
}
