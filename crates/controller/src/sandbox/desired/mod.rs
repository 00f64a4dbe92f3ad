//! The objects of a sandbox as they should be: pure functions of the spec, the settings and the
//! abilities of the nodes. No client, no clock, no async. Only this module of the controllers
//! imports `hutch-wire`, which has the agent's paths in a pod.
//!
//! | module | contents |
//! | --- | --- |
//! | `pod` | the pod |
//! | `placement` | the profile, the delivery of the agent, and the buckets that are volumes |
//! | `resources`, `quantity` | requests and limits |
//! | `workspace` | the claim of the workspace |
//! | `buckets`, `csi` | the volumes of buckets |
//! | `digest` | the fields that need a new pod |

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

/// The labels of the objects that Hutch creates for `sandbox`.
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

/// True if the object belongs to this sandbox, by UID: its controller is the sandbox. For an
/// object without a controller, such as a retained claim, the label decides.
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
