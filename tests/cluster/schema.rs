//! Objects that the API server refuses by the custom resource definitions alone, with a
//! reason in words.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{CustomResourceExt, ResourceExt};
use serde_json::{Value, json};

use crate::sandbox::manifest;
use crate::support::World;
use hutch_api::{Sandbox, SandboxSession};

/// Sends objects as `kubectl apply --validate=strict` does, and stores none.
pub struct Trial {
    api: Api<DynamicObject>,
    kind: &'static str,
}

impl Trial {
    pub fn of(world: &World, kind: &'static str) -> Self {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("hutch.dev", "v1alpha1", kind));
        let api = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
        Self { api, kind }
    }

    async fn send(&self, name: &str, spec: &Value, keep: bool) -> Result<(), String> {
        let object = json!({
            "apiVersion": "hutch.dev/v1alpha1", "kind": self.kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let params = PatchParams {
            dry_run: !keep,
            force: true,
            field_validation: Some(ValidationDirective::Strict),
            field_manager: Some("kubectl".into()),
        };
        let sent = self.api.patch(name, &params, &Patch::Apply(&object)).await;
        match sent {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message.clone()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn refuses(&self, cases: &[(Value, &str)]) {
        for (spec, why) in cases {
            let reported = self.send("x", spec, false).await;
            let short: String = spec.to_string().chars().take(200).collect();
            let reported = reported.expect_err(&short);
            assert!(reported.contains(why), "{short}:\n{reported}\nlacks: {why}");
        }
    }

    pub async fn takes(&self, specs: &[Value]) {
        for spec in specs {
            let reported = self.send("x", spec, false).await;
            let short: String = spec.to_string().chars().take(200).collect();
            reported.unwrap_or_else(|error| panic!("{short}:\n{error}"));
        }
    }
}

pub fn long(length: usize) -> String {
    "x".repeat(length)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_sandbox_is_refused_with_its_reason() {
    let world = World::new("schema").await;
    let trial = Trial::of(&world, "Sandbox");
    let env = |name: &str, value: &str| json!({"env": [{"name": name, "value": value}]});
    let many = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|i| json!({"name": format!("V{i}")}))
            .collect()
    };
    let selector = |count: usize| -> Value {
        let pairs = (0..count).map(|i| (format!("k{i}"), json!("v")));
        json!({"nodeSelector": pairs.collect::<serde_json::Map<_, _>>()})
    };
    let cases = [
        (json!({"image": ""}), "spec.image"),
        (json!({"image": long(513)}), "may not be more than 512"),
        (json!({"image": "two words"}), "spec.image"),
        (json!({"image": "-x"}), "spec.image"),
        (json!({"image": 7}), "expected string"),
        (
            json!({"command": vec!["x"; 65]}),
            "must have at most 64 items",
        ),
        (json!({"command": [""]}), "spec.command[0]"),
        (
            json!({"command": [long(4097)]}),
            "may not be more than 4096",
        ),
        (json!({"command": "sh -c x"}), "expected list"),
        (env("", "x"), "spec.env[0].name"),
        (env("1A", "x"), "spec.env[0].name"),
        (env("A-B", "x"), "spec.env[0].name"),
        (env(&long(257), "x"), "may not be more than 256"),
        (env("A", &long(32769)), "may not be more than 32768"),
        (json!({"env": many(129)}), "must have at most 128 items"),
        (json!({"env": [{"name": "A"}, {"name": "A"}]}), "uplicate"),
        (
            json!({"env": [{"name": "A", "valueFrom": {}}]}),
            "valueFrom",
        ),
        (json!({"securityProfile": "root"}), "supported values"),
        (
            json!({"runtimeClassName": "No Class"}),
            "spec.runtimeClassName",
        ),
        (
            json!({"runtimeClassName": long(254)}),
            "may not be more than 253",
        ),
        (selector(33), "must have at most 32 items"),
        (
            json!({"nodeSelector": {"a": long(64)}}),
            "may not be more than 63",
        ),
        (json!({"suspended": "yes"}), "expected bool"),
        (json!({"project": {}}), "spec.project.id"),
        (json!({"project": {"id": ""}}), "spec.project.id"),
        (
            json!({"project": {"id": long(256)}}),
            "may not be more than 255",
        ),
        (
            json!({"imagePullPolicy": "Always"}),
            "field not declared in schema",
        ),
        (
            json!({"workspace": {"sizes": "1Gi"}}),
            "field not declared in schema",
        ),
    ];
    trial.refuses(&cases).await;
    trial
        .takes(&[
            json!({}),
            json!({"image": "registry:5000/a/b@sha256:0123"}),
            json!({"env": many(128)}),
            env("A", &long(32768)),
            selector(32),
            json!({"command": vec!["x"; 64]}),
        ])
        .await;
    for name in [long(64), "a.b".into()] {
        let reported = trial.send(&name, &json!({}), false).await.unwrap_err();
        assert!(
            reported.contains("the name of a Sandbox is also its pod's host name"),
            "{reported}"
        );
    }
    let reported = trial.send("Upper", &json!({}), false).await.unwrap_err();
    assert!(reported.contains("metadata.name"), "{reported}");
    trial.send(&long(63), &json!({}), false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_amounts_and_times_are_refused_with_their_bounds() {
    let world = World::new("amounts").await;
    let trial = Trial::of(&world, "Sandbox");
    let limit = |name: &str, amount: &str| json!({"resources": {"limits": {name: amount}}});
    let size = |amount: &str| json!({"workspace": {"size": amount}});
    let time = |name: &str, text: &str| json!({"lifecycle": {name: text}});
    let cpu = "cpu must lie between 10m and 256";
    let memory = "memory must lie between 16Mi and 4Ti";
    let disk = "ephemeralStorage must lie between 16Mi and 16Ti";
    let workspace = "workspace.size must lie between 16Mi and 16Ti";
    let idle = "lifecycle.idleTimeout must lie between 1s and 8760h";
    let ttl = "lifecycle.ttl must lie between 1s and 8760h";
    let beyond = "a request must not exceed its limit";
    let pair = |name: &str, request: &str, limit: &str| json!({"resources": {"requests": {name: request}, "limits": {name: limit}}});
    let cases = [
        (limit("cpu", "9m"), cpu),
        (limit("cpu", "257"), cpu),
        (limit("cpu", "0"), cpu),
        (limit("cpu", "-1"), "spec.resources.limits.cpu"),
        (limit("cpu", "1 core"), "spec.resources.limits.cpu"),
        (limit("memory", "15Mi"), memory),
        (limit("memory", "5Ti"), memory),
        (limit("memory", "1e9"), "spec.resources.limits.memory"),
        (limit("ephemeralStorage", "1"), disk),
        (limit("ephemeralStorage", "17Ti"), disk),
        (limit("gpu", "1"), "field not declared in schema"),
        (pair("cpu", "2", "1500m"), beyond),
        (pair("memory", "1Gi", "1023Mi"), beyond),
        (pair("ephemeralStorage", "1Gi", "1G"), beyond),
        (size("15Mi"), workspace),
        (size("17Ti"), workspace),
        (size("big"), "spec.workspace.size"),
        (size(""), "spec.workspace.size"),
        (time("idleTimeout", "0s"), "spec.lifecycle.idleTimeout"),
        (time("idleTimeout", "1d"), "spec.lifecycle.idleTimeout"),
        (time("idleTimeout", "8761h"), idle),
        (time("idleTimeout", "1h30m"), "spec.lifecycle.idleTimeout"),
        (time("ttl", "-1s"), "spec.lifecycle.ttl"),
        (time("ttl", "525601m"), ttl),
        (json!({"lifecycle": {"idleTimeout": 10}}), "expected string"),
    ];
    trial.refuses(&cases).await;
    trial
        .takes(&[
            limit("cpu", "10m"),
            limit("cpu", "256"),
            limit("cpu", "0.5"),
            limit("memory", "4Ti"),
            pair("memory", "1Gi", "1024Mi"),
            size("16Mi"),
            size("16Ti"),
            time("idleTimeout", "1s"),
            time("ttl", "8760h"),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_workspace_or_toleration_is_refused_with_its_reason() {
    let world = World::new("parts").await;
    let trial = Trial::of(&world, "Sandbox");
    let mount = |path: &str| json!({"workspace": {"mountPath": path}});
    let covers = "workspace.mountPath must not cover a directory that the image needs";
    let toleration = |own: Value| json!({"tolerations": [own]});
    let operator = "operator Equal needs a key, operator Exists takes no value";
    let cases = [
        (mount("/"), "spec.workspace.mountPath"),
        (mount("workspace"), "spec.workspace.mountPath"),
        (mount("/a/../etc"), "spec.workspace.mountPath"),
        (mount("/a:b"), "spec.workspace.mountPath"),
        (mount("/.hutch/bin"), "spec.workspace.mountPath"),
        (mount("/usr"), covers),
        (mount("/etc/x"), covers),
        (
            mount(&format!("/{}", long(255))),
            "may not be more than 255",
        ),
        (
            json!({"workspace": {"persistence": "Sometimes"}}),
            "supported values",
        ),
        (
            json!({"workspace": {"storageClassName": "No Class"}}),
            "storageClassName",
        ),
        (
            json!({"workspace": {"persistence": "Ephemeral", "storageClassName": "standard"}}),
            "workspace.storageClassName has no effect on an Ephemeral workspace",
        ),
        (
            json!({"workspace": {"persistence": "Ephemeral", "reclaimPolicy": "Retain"}}),
            "an Ephemeral workspace cannot be retained",
        ),
        (toleration(json!({"value": "x"})), operator),
        (
            toleration(json!({"key": "a", "operator": "Exists", "value": "x"})),
            operator,
        ),
        (
            toleration(json!({"key": "a", "operator": "Like"})),
            "supported values",
        ),
        (
            toleration(json!({"key": "a", "effect": "Never"})),
            "supported values",
        ),
        (
            toleration(json!({"key": "a", "tolerationSeconds": -1})),
            "greater than or equal to 0",
        ),
        (
            toleration(json!({"key": long(317)})),
            "may not be more than 316",
        ),
        (
            json!({"tolerations": vec![json!({"operator": "Exists"}); 33]}),
            "must have at most 32 items",
        ),
    ];
    trial.refuses(&cases).await;
    trial
        .takes(&[
            mount("/workspace"),
            mount("/home/user/x.y"),
            mount("/usr2"),
            toleration(json!({"operator": "Exists"})),
            toleration(json!({"key": "a"})),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn immutable_fields_are_refused_with_a_reason() {
    let world = World::new("immutable").await;
    let trial = Trial::of(&world, "Sandbox");
    let workspace = json!({"workspace": {"size": "2Gi", "storageClassName": "standard"}});
    trial.send("x", &workspace, true).await.unwrap();
    let changed = |own: Value| json!({"workspace": own});
    trial
        .refuses(&[
            (
                changed(json!({"size": "2Gi", "persistence": "Ephemeral"})),
                "workspace.persistence cannot change: delete the sandbox and make a new one",
            ),
            (
                changed(json!({"size": "2Gi", "storageClassName": "other"})),
                "workspace.storageClassName cannot change",
            ),
            (
                changed(json!({"size": "2Gi"})),
                "workspace.storageClassName cannot change",
            ),
            (
                changed(json!({"size": "1Gi", "storageClassName": "standard"})),
                "workspace.size can grow but not shrink",
            ),
        ])
        .await;
    let larger = changed(json!({"size": "2049Mi", "storageClassName": "standard"}));
    trial.takes(&[larger]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_checked_and_never_changes() {
    let world = World::new("sessions").await;
    let trial = Trial::of(&world, "SandboxSession");
    let spec = |sandbox: &str, id: &str| json!({"sandboxName": sandbox, "id": id});
    let with = |key: &str, value: Value| {
        let mut spec = spec("a", "b");
        spec[key] = value;
        spec
    };
    let cases = [
        (json!({"id": "x"}), "spec.sandboxName"),
        (json!({"sandboxName": "x"}), "spec.id"),
        (spec("Upper", "b"), "spec.sandboxName"),
        (spec(&long(64), "b"), "may not be more than 63"),
        (spec("a", ""), "spec.id"),
        (spec("a", &long(513)), "may not be more than 512"),
        (with("cwd", json!("relative")), "spec.cwd"),
        (
            with("cwd", json!(format!("/{}", long(4096)))),
            "may not be more than 4096",
        ),
        (
            with("env", json!([{"name": "A"}, {"name": "A"}])),
            "uplicate",
        ),
        (with("shell", json!("zsh")), "field not declared in schema"),
    ];
    trial.refuses(&cases).await;
    let reported = trial.send(&long(64), &spec("a", "b"), false).await;
    let reported = reported.unwrap_err();
    assert!(
        reported.contains("the name of a SandboxSession has at most 63 characters"),
        "{reported}"
    );
    trial.send("x", &spec("a", "b"), true).await.unwrap();
    trial
        .refuses(&[(
            spec("a", "c"),
            "a session's spec cannot change: delete the session and make a new one",
        )])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_names_an_unknown_field_and_explains_the_known_ones() {
    let world = World::new("kubectl").await;
    let reported = world
        .apply(&manifest("x", json!({"imagee": "a"})))
        .unwrap_err();
    assert!(
        reported.contains("unknown field \"spec.imagee\""),
        "{reported}"
    );
    let reported = world
        .kubectl(&["explain", "sandbox.spec.workspace.size"], "")
        .unwrap();
    assert!(reported.contains("16Mi to 16Ti"), "{reported}");
    let api = world.sandboxes();
    let sandbox = Sandbox::new("minimal", hutch_api::SandboxSpec::default());
    let made = api.create(&PostParams::default(), &sandbox).await.unwrap();
    assert_eq!(made.spec.workspace.mount_path, "/workspace");
    let all = world.kubectl(&["get", "hutch", "-o", "name"], "").unwrap();
    assert!(all.contains(&made.name_any()), "{all}");
}

#[test]
fn the_definitions_are_small_enough_to_read() {
    for crd in [Sandbox::crd(), SandboxSession::crd()] {
        let size = serde_yaml_ng::to_string(&crd).unwrap().len();
        assert!(size < 40 << 10, "{}: {size} bytes", crd.name_any());
    }
}
