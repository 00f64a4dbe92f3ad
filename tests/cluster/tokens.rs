//! Kubernetes tokens instead of keys.

use std::io::Write;
use std::process::Stdio;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::operations::Bridge;
use crate::support::World;
use crate::support::access::{get, knock, knock_with};
use crate::support::hutch::KEYED;
use crate::support::world::eventually;

async fn create<K>(world: &World, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + DeserializeOwned,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(object).unwrap();
    let api: Api<K> = world.api();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// A token of a new ServiceAccount.
async fn token(world: &World, account: &str) -> String {
    create::<ServiceAccount>(world, json!({"metadata": {"name": account}})).await;
    let request = TokenRequest {
        spec: TokenRequestSpec::default(),
        ..TokenRequest::default()
    };
    let api = world.api::<ServiceAccount>();
    let params = PostParams::default();
    let made = api.create_token_request(account, &params, &request);
    made.await.unwrap().status.unwrap().token
}

/// The token with another signature. Its first letter is changed, because some bits of the
/// last letter have no meaning.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('x') { 'y' } else { 'x' };
    format!("{signed}.{other}{}", &signature[1..])
}

/// Lets a ServiceAccount create sandboxes in this namespace.
async fn allow(world: &World, account: &str) {
    allow_in(world, account, world).await;
}

/// Lets a ServiceAccount of `home` create sandboxes in `world`.
async fn allow_in(world: &World, account: &str, home: &World) {
    let meta = json!({"name": "sandboxes"});
    let rules =
        json!([{"apiGroups": ["hutch.dev"], "resources": ["sandboxes"], "verbs": ["create"]}]);
    create::<Role>(world, json!({"metadata": meta, "rules": rules})).await;
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sandboxes"});
    let who = json!([{"kind": "ServiceAccount", "name": account, "namespace": home.namespace}]);
    let binding = json!({"metadata": meta, "roleRef": role, "subjects": who});
    create::<RoleBinding>(world, binding).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_admitted_where_it_may_create_sandboxes() {
    let (world, other) = tokio::join!(World::new("tokens"), World::new("tokens-else"));
    let hutch = world
        .hutch("facade", &[KEYED, "--log-format", "json"])
        .await;
    let url = hutch.url().await;
    let (may, may_not) = (token(&world, "may").await, token(&world, "may-not").await);
    allow(&world, "may").await;

    // The API server needs a moment to apply new rights.
    eventually("the token is let in", async || {
        (knock_with(&url, &may).await == 200).then_some(())
    })
    .await;
    let bearer = format!("Bearer {may}");
    let sessions = get(&format!("{url}/sessions"), &[("authorization", &bearer)]).await;
    assert_eq!(sessions.status, 200, "{:#}", sessions.body);
    let line = hutch.log();
    let name = format!("system:serviceaccount:{}:may", world.namespace);
    let line = line
        .lines()
        .rfind(|line| line.contains("\"audit\""))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["tenant"], line.get("key")), (&json!(name), None));

    let bearer_not = format!("Bearer {may_not}");
    let answer = knock(&url, &[("authorization", &bearer_not)]).await;
    assert_eq!(answer.status, 403);
    let text = answer.body["message"].as_str().unwrap();
    assert!(
        text.contains("may not create sandboxes.hutch.dev"),
        "{text}"
    );
    for (namespace, status) in [(&world.namespace, 200), (&other.namespace, 403)] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-hutch-namespace", namespace),
        ];
        assert_eq!(knock(&url, &headers).await.status, status);
    }
    allow_in(&other, "may", &world).await;
    let there = [
        ("authorization", bearer.as_str()),
        ("x-hutch-namespace", &other.namespace),
    ];
    eventually("the token leads to the other namespace", async || {
        (knock(&url, &there).await.status == 200).then_some(())
    })
    .await;
    // The facade has projects in its own namespace only.
    let projects = get(&format!("{url}/sessions"), &there).await;
    assert_eq!(projects.status, 403, "{:#}", projects.body);
    let line = hutch.log();
    let line = line
        .lines()
        .rfind(|line| line.contains("\"audit\""))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["namespace"], other.namespace);
    assert_eq!(knock_with(&url, &forged(&may)).await, 401);
    for token in [&may, &may_not] {
        assert!(!hutch.log().contains(token.rsplit('.').next().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_tokens_are_refused_and_keys_still_work() {
    let world = World::new("tokens-away").await;
    world.environment.require_test_cluster();
    let directory = tempfile::tempdir().unwrap();
    let (mut bridge, environment) = Bridge::to(&world, &directory).await;
    bridge.open().await;
    let key = world.key("acme", &world.namespace, &[]);
    let token = token(&world, "may").await;
    let forged = forged(&token);
    allow(&world, "may").await;
    let hutch = world.hutch_on(&environment, "facade", &[KEYED]);
    hutch.until_ready().await;
    let url = hutch.url().await;
    // The key existed before the facade started.
    assert_eq!(knock_with(&url, &key).await, 200);

    bridge.cut().await;
    for token in [&token, &forged] {
        let bearer = format!("Bearer {token}");
        let answer = knock(&url, &[("authorization", &bearer)]).await;
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!(503)));
        assert!(answer.headers.contains_key("retry-after"));
    }
    // A text that is not a token needs no review.
    assert_eq!(knock_with(&url, "a.b.c").await, 401);
    assert_eq!(knock_with(&url, &key).await, 200);
    bridge.open().await;
    eventually("the token is let in", async || {
        (knock_with(&url, &token).await == 200).then_some(())
    })
    .await;
}

/// `config/rbac` for a ServiceAccount of this namespace only, with its roles under other
/// names.
fn rights(world: &World) -> String {
    let files = [
        include_str!("../../config/rbac/controller.yaml"),
        include_str!("../../config/rbac/facade.yaml"),
    ];
    let (own, named) = (&world.namespace, format!("name: {}-", world.namespace));
    files
        .join("\n---\n")
        .replace("namespace: hutch-system", &format!("namespace: {own}"))
        .replace("namespace: default", &format!("namespace: {own}"))
        .replace("name: hutch-", &named)
}

fn kubectl(world: &World, verb: &str, objects: &str) {
    let mut kubectl = world.environment.kubectl();
    let kubectl = kubectl.args([verb, "-f", "-"]).stdin(Stdio::piped());
    let mut kubectl = kubectl.stdout(Stdio::null()).spawn().unwrap();
    let mut input = kubectl.stdin.take().unwrap();
    input.write_all(objects.as_bytes()).unwrap();
    drop(input);
    assert!(kubectl.wait().unwrap().success(), "kubectl {verb}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_in_config_rbac_are_enough_for_keys_and_tokens() {
    let world = World::new("rights").await;
    let (directory, rights) = (tempfile::tempdir().unwrap(), rights(&world));
    kubectl(&world, "apply", &rights);
    let environment = world.environment.edited(directory.path(), |_, user| {
        let account = format!("system:serviceaccount:{}:hutch", world.namespace);
        user["as"] = json!(account);
    });
    let hutch = world.hutch_on(&environment, "facade", &[KEYED]);
    hutch.until_ready().await;
    let url = hutch.url().await;
    let key = world.key("acme", &world.namespace, &[]);
    eventually("the key is let in", async || {
        (knock_with(&url, &key).await == 200).then_some(())
    })
    .await;
    let token = token(&world, "may").await;
    allow(&world, "may").await;
    eventually("the token is let in", async || {
        (knock_with(&url, &token).await == 200).then_some(())
    })
    .await;
    kubectl(&world, "delete", &rights);
}
