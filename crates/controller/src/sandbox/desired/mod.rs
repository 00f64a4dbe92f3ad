//! What the objects of a sandbox should look like: pure functions of the spec,
//! the settings and what the nodes can do. No client, no clock, no async.
//! `hutch-wire` is imported here, and nowhere else in the controllers, for where
//! the agent expects its things in a pod.

pub mod buckets;
pub mod csi;
pub mod digest;
pub mod placement;
pub mod pod;
pub mod quantity;
pub mod resources;
pub mod workspace;

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};

use hutch_api::{MANAGED_BY, Sandbox, labels};

/// The labels of everything that is made for `sandbox`.
fn labels_of(sandbox: &Sandbox) -> BTreeMap<String, String> {
    [
        (labels::MANAGED_BY, MANAGED_BY.to_owned()),
        (labels::SANDBOX, sandbox.name_any()),
        (labels::SANDBOX_UID, sandbox.uid().unwrap_or_default()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Whether the object belongs to the very sandbox: by owner reference, or where
/// it has no controller (a retained claim), by label.
pub fn belongs<K: Resource>(object: &K, sandbox: &Sandbox) -> bool {
    let Some(uid) = sandbox.uid() else {
        return false;
    };
    let mut owners = object.owner_references().iter();
    match owners.find(|owner| owner.controller == Some(true)) {
        Some(controller) => controller.uid == uid,
        None => object.labels().get(labels::SANDBOX_UID) == Some(&uid),
    }
}
