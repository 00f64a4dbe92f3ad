//! Requests and limits of the sandbox's container. They come from the spec, or else from the
//! operator's settings. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;
use hutch_api::{Compute, Persistence, SandboxSpec};

/// Name of the disk in requests and limits.
const DISK: &str = "ephemeral-storage";

/// Requests and limits for `spec`. `limits` and `requests` are the defaults. A default limit
/// grows to a higher request of the spec. A default request shrinks to a lower limit. `extra`
/// has the sizes of Hutch's own emptyDirs, because Kubernetes counts them into the disk limit.
pub fn requirements(
    spec: &SandboxSpec,
    limits: &Compute,
    requests: &Compute,
    extra: &[&str],
) -> ResourceRequirements {
    let empty = Compute::default();
    let own_limits = spec.resources.limits.as_ref().unwrap_or(&empty);
    let own_requests = spec.resources.requests.as_ref().unwrap_or(&empty);
    let (mut upper, mut lower) = (BTreeMap::new(), BTreeMap::new());
    for (name, field) in FIELDS {
        let (limit, request) = fit(
            (field(own_limits), field(limits)),
            (field(own_requests), field(requests)),
        );
        let limit = limit.map(|limit| {
            if name == DISK {
                disk_limit(spec, limit, extra)
            } else {
                limit
            }
        });
        upper.extend(limit.map(|limit| (name.to_owned(), Quantity(limit))));
        lower.extend(request.map(|request| (name.to_owned(), Quantity(request))));
    }
    ResourceRequirements {
        limits: Some(upper),
        requests: Some(lower),
        ..Default::default()
    }
}

/// The disk limit with all emptyDirs of the pod: `extra` and an ephemeral workspace.
fn disk_limit(spec: &SandboxSpec, limit: String, extra: &[&str]) -> String {
    let mut parts = extra.to_vec();
    if spec.workspace.persistence == Persistence::Ephemeral {
        parts.push(&spec.workspace.size);
    }
    if parts.is_empty() {
        return limit;
    }
    parts.push(&limit);
    quantity::sum(&parts)
}

/// Selects one quantity.
type Field = fn(&Compute) -> Option<&String>;

const FIELDS: [(&str, Field); 3] = [
    ("cpu", |compute| compute.cpu.as_ref()),
    ("memory", |compute| compute.memory.as_ref()),
    (DISK, |compute| compute.ephemeral_storage.as_ref()),
];

/// A quantity of the spec, and its default.
type Choice<'a> = (Option<&'a String>, Option<&'a String>);

/// The limit and the request.
fn fit(limit: Choice, request: Choice) -> (Option<String>, Option<String>) {
    let upper = match (limit, request) {
        ((None, Some(default)), (Some(request), _)) if quantity::exceeds(request, default) => {
            Some(request)
        }
        ((own, default), _) => own.or(default),
    };
    let lower = match (request, upper) {
        ((None, Some(default)), Some(limit)) if quantity::exceeds(default, limit) => Some(limit),
        ((own, default), _) => own.or(default),
    };
    (upper.cloned(), lower.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_api::Resources;

    fn compute(cpu: Option<&str>, memory: Option<&str>, disk: Option<&str>) -> Compute {
        Compute {
            cpu: cpu.map(str::to_owned),
            memory: memory.map(str::to_owned),
            ephemeral_storage: disk.map(str::to_owned),
        }
    }

    fn made(spec: &SandboxSpec, extra: &[&str]) -> Vec<String> {
        let limits = compute(Some("1"), Some("1Gi"), Some("1Mi"));
        let requests = compute(Some("10m"), Some("32Mi"), Some("1Mi"));
        let made = requirements(spec, &limits, &requests, extra);
        let (upper, lower) = (made.limits.unwrap(), made.requests.unwrap());
        ["cpu", "memory", "ephemeral-storage"]
            .iter()
            .map(|name| format!("{}/{}", lower[*name].0, upper[*name].0))
            .collect()
    }

    #[test]
    fn a_field_that_is_not_set_gets_the_default() {
        let spec = SandboxSpec::default();
        assert_eq!(made(&spec, &[]), ["10m/1", "32Mi/1Gi", "1Mi/1Mi"]);
    }

    #[test]
    fn a_default_adapts_to_the_spec() {
        let spec = SandboxSpec {
            resources: Resources {
                limits: Some(compute(None, Some("16Mi"), None)),
                requests: Some(compute(Some("2"), None, None)),
            },
            ..Default::default()
        };
        assert_eq!(made(&spec, &[]), ["2/2", "16Mi/16Mi", "1Mi/1Mi"]);
    }

    #[test]
    fn an_ephemeral_workspace_is_added_to_the_disk_limit() {
        let mut spec = SandboxSpec::default();
        spec.workspace.persistence = Persistence::Ephemeral;
        spec.workspace.size = "1Mi".into();
        assert_eq!(made(&spec, &["1Mi"])[2], "1Mi/3145728");
    }
}
