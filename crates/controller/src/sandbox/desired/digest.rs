//! Digests of the spec's fields that cannot change without a new pod. The pod keeps them in an
//! annotation, so that a later change of the spec is noticed. Defaults of the operator are not
//! part of them: a new release with other defaults must not make every pod outdated. Pure.

use serde::Serialize;

use hutch_api::{Persistence, SandboxSpec};
use hutch_core::names;

/// The annotation of a new pod: `image=… command=…`.
pub fn of(spec: &SandboxSpec) -> String {
    let fields: Vec<_> = fields(spec)
        .into_iter()
        .map(|(name, digest)| format!("{name}={digest}"))
        .collect();
    fields.join(" ")
}

/// The fields of `spec` that differ from those in the annotation `recorded`. A field that the
/// annotation does not have comes from a later release and counts as unchanged.
pub fn changed(recorded: &str, spec: &SandboxSpec) -> Vec<&'static str> {
    let before = |name: &str| {
        recorded
            .split(' ')
            .filter_map(|field| field.split_once('='))
            .find_map(|(key, digest)| (key == name).then_some(digest))
    };
    fields(spec)
        .into_iter()
        .filter(|(name, digest)| before(name).is_some_and(|before| before != digest))
        .map(|(name, _)| name)
        .collect()
}

fn fields(spec: &SandboxSpec) -> [(&'static str, String); 10] {
    let workspace = &spec.workspace;
    // A claim can grow while it is used, an emptyDir cannot.
    let size = (workspace.persistence == Persistence::Ephemeral).then_some(&workspace.size);
    [
        ("image", digest(&spec.image)),
        ("command", digest(&spec.command)),
        ("env", digest(&spec.env)),
        ("resources", digest(&spec.resources)),
        ("workspace.mountPath", digest(&workspace.mount_path)),
        ("workspace.size", digest(&size)),
        ("securityProfile", digest(&spec.security_profile)),
        ("runtimeClassName", digest(&spec.runtime_class_name)),
        ("nodeSelector", digest(&spec.node_selector)),
        ("tolerations", digest(&spec.tolerations)),
    ]
}

fn digest(value: &impl Serialize) -> String {
    // These types are plain data, so the serialization cannot fail.
    let json = serde_json::to_vec(value).unwrap_or_default();
    names::digest(&json, 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_api::{Lifecycle, Project};

    #[test]
    fn a_changed_field_that_needs_a_new_pod_is_named() {
        let before = SandboxSpec::default();
        let recorded = of(&before);
        assert!(changed(&recorded, &before).is_empty());
        let mut after = before;
        after.image = Some("other".into());
        after.workspace.mount_path = "/data".into();
        assert_eq!(changed(&recorded, &after), ["image", "workspace.mountPath"]);
    }

    #[test]
    fn a_field_that_needs_no_new_pod_counts_as_unchanged() {
        let before = SandboxSpec::default();
        let mut after = before.clone();
        after.suspended = true;
        after.project = Some(Project { id: "p".into() });
        after.workspace.size = "20Gi".into();
        after.lifecycle = Lifecycle {
            ttl: Some("1h".into()),
            ..Default::default()
        };
        assert!(changed(&of(&before), &after).is_empty());
    }

    #[test]
    fn the_size_of_an_ephemeral_workspace_needs_a_new_pod() {
        let mut before = SandboxSpec::default();
        before.workspace.persistence = Persistence::Ephemeral;
        let mut after = before.clone();
        after.workspace.size = "20Gi".into();
        assert_eq!(changed(&of(&before), &after), ["workspace.size"]);
    }

    #[test]
    fn an_annotation_of_another_release_is_compared_by_its_known_fields() {
        let spec = SandboxSpec::default();
        assert!(changed("", &spec).is_empty());
        assert_eq!(changed("image=old future=x", &spec), ["image"]);
    }
}
