//! Renders the chart with several sets of values. Helm and the API server validate the
//! result. `config/rbac`, for a Hutch without the chart, is compared with the chart.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::World;
use crate::support::chart::{CHART, helm, run};

fn render(world: &World, values: &Value) -> Result<String, String> {
    let mut command = helm();
    command.args(["template", "rendered", CHART, "--no-hooks", "--values", "-"]);
    command.args(["--namespace", &world.namespace]);
    run(command, &values.to_string())
}

/// The documents of a text in YAML.
fn documents(text: &str) -> Vec<Value> {
    let all = text.split("\n---\n");
    all.map(|text| serde_yaml_ng::from_str(text).unwrap())
        .collect()
}

fn tenants(world: &World) -> Value {
    json!([{"namespace": world.namespace, "create": true, "size": "lite", "sandboxes": 3,
        "allowInternet": true, "quota": {"pods": 10}}])
}

/// The values of a component, merged with those that all components share.
fn usual(mut values: Value) -> Value {
    let usual = json!({
        "podAnnotations": {"a": "b"}, "podLabels": {"a": "b"}, "nodeSelector": {"a": "b"},
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}]}},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "serviceAccount": {"annotations": {"a": "b"}},
        "extraEnv": [{"name": "A", "value": "b"}],
        "extraVolumes": [{"name": "extra", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    });
    let values_of = values.as_object_mut().unwrap();
    values_of.extend(usual.as_object().unwrap().clone());
    values
}

/// Few values, nearly all values, and those of `tilt up`.
fn sets(world: &World) -> [(&'static str, Value); 5] {
    let tenants = tenants(world);
    let dev = include_str!("../../config/dev/values.yaml");
    let mut dev: Value = serde_yaml_ng::from_str(dev).unwrap();
    dev["tenants"][0]["namespace"] = json!(world.namespace);
    [
        ("default", json!({"tenants": tenants})),
        (
            "least",
            json!({"tenants": tenants, "crds": {"install": false},
            "admission": {"enabled": false}, "networkPolicies": {"enabled": false},
            "controller": {"replicas": 1}, "facade": {"replicas": 1},
            "sandboxes": {"defaultProfile": "restricted"}}),
        ),
        (
            "most",
            json!({"tenants": tenants, "sandboxes": {"defaultProfile": "root"},
            "database": {"existingSecret": "db"}, "fullnameOverride": "most",
            "imagePullSecrets": [{"name": "pull"}], "watchNamespace": world.namespace,
            "otlpEndpoint": "http://collector:4317", "buckets": {"allowHttp": true, "csiDriver": "ru.yandex.s3.csi"},
            "controller": usual(json!({"extraArgs": ["--default-profile=root"]})),
            "facade": usual(json!({
                "autoscaling": {"enabled": true}, "tls": {"secret": "tls"},
                "ingress": {"enabled": true, "host": "hutch.example.com", "className": "nginx",
                    "tlsSecret": "cert", "annotations": {"a": "b"}},
                "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
                "bucketKeysSecret": "keys",
            })),
            "node": usual(json!({"enabled": true})),
            "dashboard": {"enabled": true}}),
        ),
        ("dev", dev),
        (
            "two tenants",
            json!({"tenants": [tenants[0],
            {"namespace": "default", "create": false, "size": "large", "sandboxes": 0}]}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_lint_passes_and_the_api_server_accepts_everything() {
    let world = World::new("rendered").await;
    for (name, values) in sets(&world) {
        let mut lint = helm();
        lint.args(["lint", CHART, "--strict", "--values", "-"]);
        run(lint, &values.to_string()).unwrap_or_else(|output| panic!("{name}: {output}"));
        let rendered = render(&world, &values).unwrap();
        let apply = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
        ];
        // Objects name their namespaces themselves.
        let mut kubectl = world.environment.kubectl();
        kubectl
            .args(apply)
            .args(["--validate=strict", "--filename", "-"]);
        run(kubectl, &rendered).unwrap_or_else(|output| panic!("{name}: {output}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_values_are_refused_with_their_path() {
    let world = World::new("values").await;
    for (values, place) in [
        (json!({"facade": {"replica": 3}}), "/facade"),
        (json!({"tenants": []}), "/tenants"),
        (
            json!({"tenants": [{"namespace": "No", "size": "lite", "sandboxes": 1}]}),
            "/tenants/0/namespace",
        ),
        (
            json!({"tenants": [{"namespace": "a", "size": "no", "sandboxes": 1}]}),
            "there is no size no",
        ),
        (
            json!({"sizes": {"tiny": {"cpu": "1", "memory": "1G", "workspace": "1Gi"}}}),
            "/sizes/tiny/memory",
        ),
        (
            json!({"sandboxes": {"defaultProfile": "admin"}}),
            "/sandboxes/defaultProfile",
        ),
        (
            json!({"facade": {"ingress": {"enabled": true}}}),
            "facade.ingress.host is needed",
        ),
    ] {
        let output = render(&world, &values).unwrap_err();
        assert!(output.contains(place), "{values}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_every_component_and_grafana_its_dashboard() {
    let world = World::new("monitoring").await;
    let on = json!({"enabled": true});
    let values = json!({"tenants": tenants(&world), "serviceMonitor": on, "dashboard": on});
    let documents = documents(&render(&world, &values).unwrap());
    let of = |kind: &str, end: &str| {
        let named = |one: &&Value| {
            one["kind"] == kind && one["metadata"]["name"].as_str().unwrap().ends_with(end)
        };
        documents.iter().find(named).unwrap()
    };
    let has = |labels: &Value, wanted: &Value| {
        let wanted = wanted.as_object().unwrap();
        wanted.iter().all(|(key, value)| labels[key] == *value)
    };
    let (service, monitor) = (of("Service", "-metrics"), of("ServiceMonitor", ""));
    assert!(has(
        &service["metadata"]["labels"],
        &monitor["spec"]["selector"]["matchLabels"]
    ));
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
    for component in ["-controller", "-facade"] {
        let template = &of("Deployment", component)["spec"]["template"];
        assert!(has(
            &template["metadata"]["labels"],
            &service["spec"]["selector"]
        ));
        let ports = template["spec"]["containers"][0]["ports"]
            .as_array()
            .unwrap();
        assert!(ports.iter().any(|port| port["name"] == "ops"));
    }
    let dashboard = of("ConfigMap", "-dashboard")["data"]["hutch.json"]
        .as_str()
        .unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    // Every series of the dashboard is documented.
    let (documented, shown) = (
        include_str!("../../docs/operations.md"),
        dashboard.to_string(),
    );
    for series in shown.split("hutch_").skip(1) {
        let end = series.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        let series = &series[..end.unwrap()];
        let series = series
            .trim_end_matches("_count")
            .trim_end_matches("_bucket");
        assert!(
            documented.contains(&format!("`hutch_{series}`")),
            "{series}"
        );
    }
}

/// Documents by kind and name.
fn named(documents: &[Value]) -> BTreeMap<(String, String), &Value> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let key = |it: &Value| (text(&it["kind"]), text(&it["metadata"]["name"]));
    documents.iter().map(|it| (key(it), it)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn config_rbac_is_up_to_date_with_the_chart() {
    let directory = tempfile::tempdir().unwrap();
    let mut generate = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/config/rbac/generate.sh"
    ));
    generate.arg(directory.path());
    generate.env("HUTCH_HELM", helm().get_program());
    run(generate, "").unwrap_or_else(|output| panic!("{output}"));
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/config/rbac");
    for file in directory.path().read_dir().unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let wanted = std::fs::read_to_string(file.path()).unwrap();
        let found = std::fs::read_to_string(format!("{committed}/{name}")).unwrap();
        assert!(
            found == wanted,
            "config/rbac/{name} is not up to date: run `make generate`"
        );
        let kustomization = include_str!("../../config/rbac/kustomization.yaml");
        assert!(kustomization.contains(&format!("- {name}\n")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_follow_the_release_and_the_overrides_and_all_objects_are_labelled() {
    let world = World::new("names").await;
    for (more, prefix) in [
        (json!({}), "rendered-hutch"),
        (json!({"nameOverride": "boxes"}), "rendered-boxes"),
        (json!({"nameOverride": "render"}), "rendered"),
        (json!({"fullnameOverride": "other"}), "other"),
    ] {
        let mut values = json!({"tenants": tenants(&world), "node": {"enabled": true}});
        let more = more.as_object().unwrap().clone();
        values.as_object_mut().unwrap().extend(more);
        let documents = documents(&render(&world, &values).unwrap());
        let named = named(&documents);
        for component in ["controller", "facade"] {
            let wanted = ("Deployment".to_owned(), format!("{prefix}-{component}"));
            assert!(named.contains_key(&wanted), "{wanted:?}");
        }
        for ((kind, name), object) in named {
            for label in ["name", "instance", "version", "component", "part-of"] {
                let label = format!("app.kubernetes.io/{label}");
                let value = &object["metadata"]["labels"][&label];
                assert!(value.is_string(), "{kind} {name} has no label {label}");
            }
        }
    }
}
