//! What the chart renders, for several sets of values, judged by Helm and by the API
//! server itself, and beside `config/rbac`, which is for a Hutch without the chart.

use std::collections::BTreeSet;

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
        "internet": true, "quota": {"pods": 10}}])
}

/// As few as possible, as many, and those of `tilt up`.
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
            "controller": {"replicas": 1}, "facade": {"replicas": 1}, "profile": "restricted"}),
        ),
        (
            "most",
            json!({"tenants": tenants, "profile": "root", "databaseSecret": "db",
            "imagePullSecrets": [{"name": "pull"}], "watchNamespace": world.namespace,
            "otlpEndpoint": "http://collector:4317", "buckets": {"allowHttp": true, "csiDriver": "ru.yandex.s3.csi"},
            "controller": {"nodeSelector": {"a": "b"}, "extraArgs": ["--default-profile=root"]},
            "facade": {
                "autoscaling": {"enabled": true}, "tls": {"secret": "tls"},
                "ingress": {"enabled": true, "host": "hutch.example.com", "className": "nginx",
                    "tlsSecret": "cert", "annotations": {"a": "b"}},
                "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
                "bucketKeysSecret": "keys", "tolerations": [{"operator": "Exists"}],
            },
            "node": {"enabled": true, "nodeSelector": {"a": "b"}},
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
async fn helm_finds_no_fault_and_the_api_server_takes_everything() {
    let world = World::new("rendered").await;
    for (name, values) in sets(&world) {
        let mut lint = helm();
        lint.args(["lint", CHART, "--strict", "--values", "-"]);
        run(lint, &values.to_string()).unwrap_or_else(|said| panic!("{name}: {said}"));
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
        run(kubectl, &rendered).unwrap_or_else(|said| panic!("{name}: {said}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_make_no_sense_are_refused_with_their_place() {
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
        (json!({"profile": "admin"}), "/profile"),
        (
            json!({"facade": {"ingress": {"enabled": true}}}),
            "facade.ingress.host is needed",
        ),
    ] {
        let said = render(&world, &values).unwrap_err();
        assert!(said.contains(place), "{values}: {said}");
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
    // Every series that it shows is one that Hutch tells of.
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

/// API group, resource, names of objects, and verb.
type Right = [String; 4];

/// What roles with these beginnings of their names allow outside of Hutch's own
/// namespace, and what there besides.
fn rights(documents: &[Value], roles: &[&str]) -> [BTreeSet<Right>; 2] {
    let allowed = |kind: &str| {
        let mut rights = BTreeSet::new();
        let name = |it: &Value| it["metadata"]["name"].as_str().unwrap().to_owned();
        let meant = |it: &&Value| roles.iter().any(|role| name(it).starts_with(role));
        let of_kind = documents.iter().filter(|it| it["kind"] == kind);
        for rule in of_kind
            .filter(meant)
            .flat_map(|role| role["rules"].as_array().unwrap())
        {
            let all = |part: &str| -> Vec<String> {
                serde_json::from_value(rule[part].clone()).unwrap_or_default()
            };
            let names = all("resourceNames").join(" ");
            for group in all("apiGroups") {
                for resource in all("resources") {
                    for verb in all("verbs") {
                        rights.insert([group.clone(), resource.clone(), names.clone(), verb]);
                    }
                }
            }
        }
        rights
    };
    let (everywhere, at_home) = (allowed("ClusterRole"), allowed("Role"));
    let more = at_home.difference(&everywhere).cloned().collect();
    [everywhere, more]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_applies_config_rbac_gets_the_rights_that_the_chart_gives() {
    let world = World::new("rbac").await;
    let values = json!({"tenants": tenants(&world), "node": {"enabled": true}});
    let chart = documents(&render(&world, &values).unwrap());
    let by_hand = [
        include_str!("../../config/rbac/controller.yaml"),
        include_str!("../../config/rbac/driver.yaml"),
        include_str!("../../config/rbac/facade.yaml"),
        include_str!("../../config/rbac/node.yaml"),
        include_str!("../../config/rbac/users.yaml"),
    ];
    let by_hand: Vec<_> = by_hand.iter().flat_map(|text| documents(text)).collect();
    for (roles, same) in [
        // One ServiceAccount has both there.
        (
            &["rendered-controller", "rendered-facade"][..],
            &[
                "hutch-controller",
                "hutch-leader",
                "hutch-buckets",
                "hutch-facade",
                "hutch-bucket-keys",
            ][..],
        ),
        (&["rendered-node"], &["hutch-node"]),
        (&["rendered-view"], &["hutch-view"]),
        (&["rendered-edit"], &["hutch-edit"]),
    ] {
        let rights = [rights(&chart, roles), rights(&by_hand, same)];
        assert!(rights[0][0].len() > 4, "{roles:?} were not found");
        for (given, applied) in rights[0].iter().zip(&rights[1]) {
            let differ: Vec<_> = given.symmetric_difference(applied).collect();
            assert!(differ.is_empty(), "{roles:?}: {differ:?}");
        }
    }
    let driver = |documents: &[Value]| {
        let found = documents.iter().find(|it| it["kind"] == "CSIDriver");
        found.unwrap()["spec"].clone()
    };
    assert_eq!(driver(&chart), driver(&by_hand));
}
