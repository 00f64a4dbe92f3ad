//! The objects that the chart admits to a tenant's namespace, and those that it refuses:
//! one for every rule. Every request is a dry run.

use k8s_openapi::api::core::v1::{LimitRange, PersistentVolumeClaim, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::sandbox::manifest;
use crate::support::World;
use crate::support::chart::Release;
use crate::support::world::eventually;

/// A pod as the controller creates it, with changes.
fn pod(labels: Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "judged", "labels": labels},
    "spec": {
        "hostUsers": false, "automountServiceAccountToken": false,
        "securityContext": {"runAsUser": 0},
        "containers": [{"name": "c", "image": "python:3.11-slim",
            "securityContext": {"allowPrivilegeEscalation": false}}],
    }});
    change(&mut pod);
    pod
}

struct Judge<'a> {
    world: &'a World,
    controller: String,
}

impl Judge<'_> {
    /// The API server's answer to that user's object.
    fn create(&self, user: Option<&str>, object: &Value) -> Result<String, String> {
        let mut arguments = vec!["create", "--dry-run=server", "--filename", "-"];
        arguments.extend(user.iter().flat_map(|user| ["--as", *user]));
        self.world.kubectl(&arguments, &object.to_string())
    }

    fn accepts(&self, user: Option<&str>, object: &Value) {
        self.create(user, object).unwrap();
    }

    /// Checks that the object is refused with this text, once the API server has loaded the
    /// rule.
    async fn refuses(&self, user: Option<&str>, object: &Value, words: &str) {
        eventually(&format!("refused: {words}"), async || {
            let output = self.create(user, object).err()?;
            output.contains(words).then_some(())
        })
        .await;
    }

    fn ours(&self) -> Option<&str> {
        Some(&self.controller)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_keep_to_their_profile_and_only_hutch_sets_its_labels() {
    let world = World::new("admission").await;
    let release = Release::install(&world, json!({})).await;
    let controller = release.user("controller");
    let judge = Judge {
        world: &world,
        controller,
    };
    let ours = || json!({"app.kubernetes.io/managed-by": "hutch", "hutch.dev/sandbox": "a"});

    // Rules for the profile.
    let in_namespace = pod(ours(), |_| ());
    let as_root = pod(ours(), |pod| pod["spec"]["hostUsers"] = json!(true));
    let words = "in a user namespace only";
    judge.refuses(judge.ours(), &as_root, words).await;
    judge.accepts(judge.ours(), &in_namespace);
    let as_user = pod(ours(), |pod| {
        pod["spec"]["hostUsers"] = json!(true);
        pod["spec"]["securityContext"] = json!({"runAsUser": 1000});
    });
    judge.accepts(judge.ours(), &as_user);
    let unsaid = pod(ours(), |pod| {
        pod["spec"]["hostUsers"] = json!(true);
        pod["spec"]["securityContext"] = json!({});
    });
    judge.refuses(judge.ours(), &unsaid, words).await;
    let one_of_them = pod(ours(), |pod| {
        *pod = as_user.clone();
        pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(0);
    });
    judge.refuses(judge.ours(), &one_of_them, words).await;
    let token = pod(ours(), |pod| {
        pod["spec"]["automountServiceAccountToken"] = json!(true)
    });
    judge
        .refuses(judge.ours(), &token, "no token of a ServiceAccount")
        .await;
    let escalates = pod(ours(), |pod| {
        pod["spec"]["containers"][0]["securityContext"] = json!({});
    });
    judge
        .refuses(judge.ours(), &escalates, "does not escalate")
        .await;

    // Rules for the labels.
    for label in [
        json!({"app.kubernetes.io/managed-by": "hutch"}),
        json!({"hutch.dev/sandbox": "a"}),
        json!({"hutch.dev/sandbox-uid": "u"}),
    ] {
        let pod = pod(label, |_| ());
        judge.refuses(None, &pod, "are Hutch's to set").await;
    }
    for label in [
        json!({}),
        json!({"hutch.dev/attach": "true"}),
        json!({"app.kubernetes.io/managed-by": "Helm"}),
    ] {
        judge.accepts(None, &pod(label, |_| ()));
    }

    // Hutch's labels stay as they are, and other users may change the rest.
    let tenant = release.tenant("a").await;
    tenant.create().await.ok();
    let claims = world.claims().list(&ListParams::default()).await.unwrap();
    let claim: &PersistentVolumeClaim = claims.items.first().unwrap();
    let claim = claim.metadata.name.clone().unwrap();
    let label = |label: &str| world.kubectl(&["label", "pvc", &claim, "--overwrite", label], "");
    label("mine=1").unwrap();
    for theft in ["hutch.dev/sandbox-", "hutch.dev/sandbox-uid=other"] {
        let output = label(theft).unwrap_err();
        assert!(output.contains("are Hutch's to set"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_gets_its_quota_and_no_more() {
    let world = World::new("share").await;
    let share = json!([{"namespace": world.namespace, "size": "lite", "sandboxes": 1,
        "allowInternet": true}]);
    let release = Release::install(&world, json!({"tenants": share})).await;
    let tenant = release.tenant("a").await;
    tenant.create().await.ok();
    let pod = world
        .pods()
        .get(&hutch_core::names::sandbox("a"))
        .await
        .unwrap();
    let limits = pod.spec.unwrap().containers[0]
        .resources
        .clone()
        .unwrap()
        .limits
        .unwrap();
    assert_eq!(
        (limits["cpu"].0.as_str(), limits["memory"].0.as_str()),
        ("500m", "256Mi")
    );

    // One sandbox more than the quota allows, also through REST.
    let output = world.apply(&manifest("second", json!({}))).unwrap_err();
    assert!(output.contains("exceeded quota"), "{output}");
    let answer = tenant.about("b").create().await;
    assert!(answer.status >= 400, "{:#}", answer.body);
    let text = answer.body["message"].as_str().unwrap();
    assert!(text.contains("limit of 1 sandboxes is reached"), "{text}");

    // A sandbox larger than the limit.
    let judge = Judge {
        world: &world,
        controller: String::new(),
    };
    let larger = self::pod(json!({}), |pod| {
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "4"}});
    });
    judge
        .refuses(None, &larger, "maximum cpu usage per Container is 500m")
        .await;

    // The NetworkPolicy exists. The cluster's network has to enforce it, and that of the
    // test cluster does not.
    let all = ListParams::default();
    let policies = world.api::<NetworkPolicy>().list(&all).await.unwrap();
    let deny = policies
        .iter()
        .find(|one| one.metadata.name.as_deref().unwrap().ends_with("-deny"));
    let deny = deny.unwrap().spec.clone().unwrap();
    assert_eq!(deny.policy_types.unwrap(), ["Ingress", "Egress"]);
    assert!(deny.ingress.is_none() && deny.egress.is_none());
    let open = policies
        .iter()
        .find_map(|one| one.spec.clone()?.egress)
        .unwrap();
    let blocks: Vec<_> = open
        .iter()
        .flat_map(|rule| rule.to.iter().flatten())
        .collect();
    let refused = |cidr: &str| {
        blocks.iter().any(|to| {
            let except = to.ip_block.as_ref().and_then(|block| block.except.as_ref());
            except.is_some_and(|except| except.iter().any(|one| one == cidr))
        })
    };
    for cidr in [
        "10.0.0.0/8",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "168.63.129.16/32",
    ] {
        assert!(refused(cidr), "{cidr}");
    }
    assert_eq!(
        world
            .api::<ResourceQuota>()
            .list(&all)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(
        world
            .api::<LimitRange>()
            .list(&all)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}
