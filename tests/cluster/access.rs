//! Authentication and rights: every way to present a key, wrong keys, scopes, and tenants
//! that do not see each other.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;

use crate::support::access::{get, id, knock, knock_with, secret, with_user};
use crate::support::backend::Backend;
use crate::support::hutch::KEYED;
use crate::support::world::{eventually, http};
use crate::support::{Tenant, World};

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_the_same_sandbox_id_do_not_see_each_other() {
    let (one, two) = tokio::join!(World::new("tenant-one"), World::new("tenant-two"));
    let facade = one.hutch("facade", &[KEYED]).await;
    let _controllers = tokio::join!(one.hutch("controller", &[]), two.hutch("controller", &[]));
    let url = facade.url().await;
    let client = async |world: &World, name: &str| {
        let key = one.live_key(&url, name, &world.namespace, &[]).await;
        Tenant::new(&with_user(&url, &key), "same")
    };
    let alice = client(&one, "alice").await;
    let bob = client(&two, "bob").await;

    let (made, also) = tokio::join!(alice.create(), bob.create());
    made.ok();
    also.ok();
    alice.write("mine", "alice").await.ok();
    assert!(!bob.exists("mine").await);
    bob.write("mine", "bob").await.ok();
    assert_eq!(alice.text("mine").await, "alice");
    assert_eq!(alice.stdout("cat mine").await, "alice");
    assert_eq!(bob.stdout("cat mine").await, "bob");
    alice.open("hers").await.ok();
    assert_eq!(alice.sessions().await, ["default", "hers"]);
    assert_eq!(bob.sessions().await, ["default"]);
    bob.close("hers").await.fails(404, "Session not found");
    bob.exec_in("default", "export WHO=bob").await.ok();
    assert_eq!(alice.stdout_in("default", "echo $WHO").await, "");

    // Neither the name of the resource nor a header helps.
    let name = one.sandbox_of("same").await.metadata.name.unwrap();
    let key = one.live_key(&url, "bob", &two.namespace, &[]).await;
    let elsewhere = [
        ("x-sandbox-id", "same"),
        ("x-hutch-namespace", &one.namespace),
        ("authorization", &format!("Bearer {key}")),
    ];
    let list = format!("{url}/api/session/list");
    assert_eq!(
        get(&list, &elsewhere).await.body["data"],
        json!(["default"])
    );
    bob.about(&name).destroy().await.ok();

    bob.destroy().await.ok();
    assert_eq!(alice.stdout("cat mine").await, "alice");
    let left = two.sandboxes().list(&Default::default()).await.unwrap();
    assert!(left.items.is_empty(), "{:?}", left.items.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_presented_in_any_of_the_usual_ways() {
    let world = World::new("ways").await;
    let hutch = world.hutch("facade", &[KEYED]).await;
    let url = hutch.url().await;
    let key = world.live_key_to_all(&url).await;
    let basic = |text: String| format!("Basic {}", STANDARD.encode(text));
    for shown in [
        format!("Bearer {key}"),
        format!("bearer {key}"),
        basic(format!("acme:{key}")),
        basic(format!("{key}:")),
        basic(format!("{key}:x")),
    ] {
        let answer = knock(&url, &[("authorization", &shown)]).await;
        assert_eq!(answer.status, 200, "{:#}", answer.body);
        let answer = get(&format!("{url}/sessions"), &[("authorization", &shown)]).await;
        assert_eq!(answer.status, 200, "{:#}", answer.body);
    }
    for user in [key.clone(), format!("acme:{key}"), format!("{key}:")] {
        assert_eq!(knock(&with_user(&url, &user), &[]).await.status, 200);
        let backend = Backend::new(&with_user(&url, &user), "any");
        assert!(backend.sessions().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_valid_key_gets_the_same_answer_on_every_route() {
    let world = World::new("wrong").await;
    let hutch = world.hutch("facade", &[KEYED]).await;
    let url = hutch.url().await;
    let key = world.live_key(&url, "acme", &world.namespace, &[]).await;
    let revoked = world.live_key(&url, "acme", &world.namespace, &[]).await;
    world.hutch_keys(&["revoke", id(&revoked)]).unwrap();
    eventually("the key is revoked", async || {
        (knock_with(&url, &revoked).await == 401).then_some(())
    })
    .await;
    let unknown = format!("hutch_{}_{}", "0".repeat(12), secret(&key));
    let other = format!("hutch_{}_{}", id(&key), secret(&revoked));
    let wrong = [
        "Bearer".to_owned(),
        "Bearer nonsense".to_owned(),
        "Bearer a.b.c".to_owned(),
        format!("Digest {key}"),
        format!("Bearer {revoked}"),
        format!("Bearer {unknown}"),
        format!("Bearer {other}"),
        format!("Bearer {key}0"),
        format!("Bearer {}", key.to_uppercase()),
        format!("Basic {}", STANDARD.encode(format!("acme:{other}"))),
        "Basic !".to_owned(),
    ];
    let none = knock(&url, &[]).await;
    assert_eq!(none.status, 401);
    let text = none.body["message"].as_str().unwrap();
    let data = json!({"error": text, "sandboxId": "any"});
    let envelope = json!({"data": data, "message": text, "code": 401});
    assert_eq!(none.body, envelope);
    for shown in &wrong {
        let answer = knock(&url, &[("authorization", shown)]).await;
        assert_eq!((answer.status, &answer.body), (401, &envelope), "{shown}");
        let challenges = answer.headers.get_all("www-authenticate").iter();
        let challenges: Vec<_> = challenges.map(|value| value.to_str().unwrap()).collect();
        assert_eq!(
            challenges,
            [r#"Bearer realm="hutch""#, r#"Basic realm="hutch""#]
        );
        let answer = get(&format!("{url}/sessions"), &[("authorization", shown)]).await;
        assert_eq!((answer.status, answer.body), (401, json!({"error": text})));
    }
    let twice = [("authorization", "Bearer x"), ("authorization", "Bearer x")];
    assert_eq!(knock(&url, &twice).await.status, 401);

    every_route_asks(&url).await;
    let health = get(&format!("{url}/health"), &[]).await;
    assert_eq!(health.body, json!({"status": "ok", "active_sessions": 0}));
    // Only keys of the project API show the state of the database.
    let scope = ["--scope", "project"];
    let project = world.live_key(&url, "acme", &world.namespace, &scope).await;
    for (key, reported) in [(&key, json!(null)), (&project, json!(false))] {
        let bearer = format!("Bearer {key}");
        let health = get(&format!("{url}/health"), &[("authorization", &bearer)]).await;
        assert_eq!(health.body["database"]["configured"], reported);
    }
    let made = world.sandboxes().list(&Default::default()).await.unwrap();
    assert!(made.items.is_empty());
}

/// Every route of both contracts, as their pages list them, answers 401.
async fn every_route_asks(url: &str) {
    let pages = [
        include_str!("../../docs/tenant-api.md"),
        include_str!("../../docs/project-api.md"),
    ];
    let client = http();
    let mut asked = 0;
    for page in pages {
        for route in page.split(['`', '\n']) {
            let route = route.trim_start_matches("## ");
            let Some((methods, path)) = route.rsplit_once(" /") else {
                continue;
            };
            for method in methods
                .split(['`', ',', ' '])
                .filter(|word| !word.is_empty())
            {
                if !matches!(method, "GET" | "POST" | "DELETE") || path == "health" {
                    continue;
                }
                let address = format!("{url}/{}", path.replace("<id>", "x"));
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let request = client.request(method, &address).header("x-sandbox-id", "x");
                let status = request.body("{}").send().await.unwrap().status();
                assert_eq!(status, 401, "{address}");
                asked += 1;
            }
        }
    }
    assert!(asked > 25, "only {asked} routes were found in the pages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_works_for_its_scopes_only() {
    let world = World::new("scopes").await;
    let hutch = world.hutch("facade", &[KEYED]).await;
    let url = hutch.url().await;
    let tenant = world
        .live_key(&url, "one", &world.namespace, &["--scope", "tenant"])
        .await;
    let project = world
        .live_key(&url, "one", &world.namespace, &["--scope", "project"])
        .await;
    let sessions = format!("{url}/sessions");
    let bearer = |key: &str| format!("Bearer {key}");
    let lacks = |scope: &str| format!("the key lacks the scope {scope}");

    assert_eq!(knock_with(&url, &tenant).await, 200);
    let answer = get(&sessions, &[("authorization", &bearer(&tenant))]).await;
    let error = json!({"error": lacks("project")});
    assert_eq!((answer.status, answer.body), (403, error));
    let answer = get(&sessions, &[("authorization", &bearer(&project))]).await;
    assert_eq!(answer.status, 200);
    let answer = knock(&url, &[("authorization", &bearer(&project))]).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.body["message"], lacks("tenant"));
    assert_eq!(answer.body["code"], 403);

    // Projects are in the facade's own namespace only.
    let elsewhere = world
        .live_key(&url, "two", "kube-public", &["--scope", "project"])
        .await;
    let answer = get(&sessions, &[("authorization", &bearer(&elsewhere))]).await;
    assert_eq!(answer.status, 403, "{:#}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facade_that_knows_one_namespace_refuses_keys_of_others() {
    let world = World::new("confined").await;
    let hutch = world.hutch("run", &[KEYED]).await;
    let url = hutch.url().await;
    let (own, other) = (
        world.live_key(&url, "own", &world.namespace, &[]).await,
        world.live_key(&url, "other", "kube-public", &[]).await,
    );
    assert_eq!(knock_with(&url, &own).await, 200);
    assert_eq!(knock_with(&url, &other).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facades_own_s3_credentials_serve_its_own_namespace_only() {
    let world = World::new("own-keys").await;
    let own = ["--aws-access-key-id", "a", "--aws-secret-access-key", "b"];
    let hutch = world.hutch("facade", &[&[KEYED][..], &own].concat()).await;
    let url = hutch.url().await;
    let home = world.live_key(&url, "home", &world.namespace, &[]).await;
    let away = world.live_key(&url, "away", "kube-public", &[]).await;
    let wanted = json!({
        "bucket": "data",
        "mountPath": "/mnt/data",
        "options": {"endpoint": "https://s3.invalid"},
    });
    for (key, status, text) in [
        (home, 404, "Sandbox or session not found"),
        (away, 400, "Missing credentials"),
    ] {
        let tenant = Tenant::new(&with_user(&url, &key), "none");
        let answer = tenant.post("/mount-bucket", wanted.clone()).await;
        let printed = answer.body.to_string();
        assert!(
            answer.status == status && printed.contains(text),
            "{printed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused() {
    let world = World::new("pages").await;
    let keyed = world.hutch("facade", &[KEYED]).await;
    let url = keyed.url().await;
    let key = world.live_key(&url, "acme", &world.namespace, &[]).await;
    let bearer = format!("Bearer {key}");
    let key = ("authorization", bearer.as_str());
    for page in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://else.example.com"),
    ] {
        assert_eq!(knock(&url, &[key, page]).await.status, 403, "{page:?}");
    }
    let open = world.hutch("facade", &[]).await;
    let url = open.url().await;
    assert_eq!(knock(&url, &[]).await.status, 200);
    let rebound = [("host", "rebound.example.com")];
    assert_eq!(knock(&url, &rebound).await.status, 403);
}

#[test]
fn the_facade_does_not_start_on_the_network_without_keys() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hutch"));
    command.args(["facade", "--listen", "0.0.0.0:0", "--insecure-no-auth"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(
        printed.contains("hutch keys create") && printed.contains("127.0.0.1"),
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_the_facade_serves_the_network() {
    let world = World::new("network").await;
    let hutch = world
        .hutch("facade", &[KEYED, "--listen", "0.0.0.0:0"])
        .await;
    let url = hutch.url().await.replace("0.0.0.0", "127.0.0.1");
    let key = world.live_key(&url, "acme", &world.namespace, &[]).await;
    assert_eq!(knock(&url, &[]).await.status, 401);
    assert_eq!(knock_with(&url, &key).await, 200);
}
