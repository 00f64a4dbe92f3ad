//! Requests and limits of the sandbox's container: the spec's, else the
//! operator's, made to fit together.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;
use hutch_api::{Compute, Persistence, SandboxSpec};

/// Requests and limits for `spec`. A default limit yields to a higher request of
/// the spec, a default request to a lower limit. `extra` is the size of emptyDirs
/// of ours: Kubernetes counts them into the pod's disk limit.
pub fn requirements(
    spec: &SandboxSpec,
    limits: &Compute,
    requests: &Compute,
    extra: &[&str],
) -> ResourceRequirements {
    let empty = Compute::default();
    let own_limits = spec.resources.limits.as_ref().unwrap_or(&empty);
    let own_requests = spec.resources.requests.as_ref().unwrap_or(&empty);
    let mut made = ResourceRequirements::default();
    let mut upper = BTreeMap::new();
    let mut lower = BTreeMap::new();
    let fields: [(&str, Field); 3] = [
        ("cpu", |compute| compute.cpu.as_ref()),
        ("memory", |compute| compute.memory.as_ref()),
        ("ephemeral-storage", |compute| {
            compute.ephemeral_storage.as_ref()
        }),
    ];
    for (name, field) in fields {
        let (limit, request) = fit(
            (field(own_limits), field(limits)),
            (field(own_requests), field(requests)),
        );
        if let Some(mut limit) = limit {
            if name == "ephemeral-storage" {
                let mut parts = extra.to_vec();
                if spec.workspace.persistence == Persistence::Ephemeral {
                    parts.push(&spec.workspace.size);
                }
                if !parts.is_empty() {
                    parts.push(&limit);
                    limit = quantity::sum(&parts);
                }
            }
            upper.insert(name.to_owned(), Quantity(limit));
        }
        if let Some(request) = request {
            lower.insert(name.to_owned(), Quantity(request));
        }
    }
    made.limits = Some(upper);
    made.requests = Some(lower);
    made
}

/// One of the amounts.
type Field = fn(&Compute) -> Option<&String>;
type Choice<'a> = (Option<&'a String>, Option<&'a String>);

/// Limit and request out of (own, default) pairs.
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
    fn what_the_spec_leaves_out_gets_the_defaults() {
        let spec = SandboxSpec::default();
        assert_eq!(made(&spec, &[]), ["10m/1", "32Mi/1Gi", "1Mi/1Mi"]);
    }

    #[test]
    fn a_default_yields_to_what_the_spec_says() {
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
