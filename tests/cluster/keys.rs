//! `hutch keys`, and the time until the facade follows it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::support::World;
use crate::support::access::{id, knock_with, secret};
use crate::support::hutch::KEYED;
use crate::support::world::eventually;

/// The longest time until a key works, or stops working.
const KEY_CHANGE_LIMIT: Duration = Duration::from_secs(1);

/// Checks that requests with that key soon get the wanted status, and keep it.
async fn soon(url: &str, key: &str, status: u16) {
    let began = Instant::now();
    eventually("the key is known", async || {
        (knock_with(url, key).await == status).then_some(())
    })
    .await;
    assert!(
        began.elapsed() < KEY_CHANGE_LIMIT,
        "only after {:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_changes_its_key_without_a_gap() {
    let world = World::new("rotation").await;
    let hutch = world.hutch("facade", &[KEYED]).await;
    let url = hutch.url().await;
    let create = || world.key("acme", &world.namespace, &[]);
    let first = create();
    soon(&url, &first, 200).await;
    let second = create();
    soon(&url, &second, 200).await;
    assert_eq!(knock_with(&url, &first).await, 200);

    let (a, b) = (id(&first), id(&second));
    let third = world.hutch_keys(&["create", "acme", "--namespace", &world.namespace]);
    let third = third.unwrap_err();
    assert!(
        third.contains("2 live keys") && third.contains(a) && third.contains(b),
        "{third}"
    );
    world.hutch_keys(&["revoke", a]).unwrap();
    soon(&url, &first, 401).await;
    assert_eq!(knock_with(&url, &second).await, 200);
    let again = create();
    soon(&url, &again, 200).await;
    for key in [&first, &second, &again] {
        assert!(!hutch.log().contains(secret(key)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_keys_shows_no_secret() {
    let world = World::new("list").await;
    assert_eq!(world.hutch_keys(&["list"]), Ok(String::new()));
    let more = [
        "--scope",
        "project,tenant",
        "--rate",
        "7",
        "--concurrency",
        "3",
    ];
    let key = world.key("acme", &world.namespace, &more);
    let list = world.hutch_keys(&["list"]).unwrap();
    let row = list.lines().nth(1).unwrap();
    let cells: Vec<_> = row.split_whitespace().take(6).collect();
    let wanted = [
        id(&key),
        "acme",
        &world.namespace,
        "tenant,project",
        "7/s",
        "3",
    ];
    assert_eq!(cells, wanted);
    assert!(!list.contains(secret(&key)));

    let stored = world.api::<Secret>().get("hutch-api-keys").await.unwrap();
    let stored = serde_json::to_string(&stored).unwrap();
    assert!(!stored.contains(secret(&key)));

    for (arguments, says) in [
        (vec!["revoke", "none"], "there is no key none"),
        (
            vec!["create", "acme", "--namespace", "other"],
            "a tenant has one namespace",
        ),
        (
            vec!["create", "b c", "--namespace", "other"],
            "letters, digits",
        ),
        (
            vec!["create", "b", "--namespace", "No"],
            "valid name of a namespace",
        ),
        (
            vec!["create", "b", "--namespace", &world.namespace],
            "share their sandboxes",
        ),
        (vec!["create", "b"], "--namespace"),
    ] {
        let refused = world.hutch_keys(&arguments).unwrap_err();
        assert!(refused.contains(says), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_ask_at_the_same_moment_all_get_their_keys() {
    let world = World::new("race").await;
    let tenants = 0..4;
    let made = std::thread::scope(|scope| {
        let create = |n: usize| {
            let world = &world;
            scope.spawn(move || world.key(&format!("t{n}"), &format!("n{n}"), &[]))
        };
        let all: Vec<_> = tenants.map(create).collect();
        let keys = all.into_iter().map(|one| one.join().unwrap());
        keys.collect::<Vec<_>>()
    });
    let list = world.hutch_keys(&["list"]).unwrap();
    assert!(made.iter().all(|key| list.contains(id(key))), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_entry_disables_no_other() {
    let world = World::new("malformed").await;
    let hutch = world.hutch("facade", &[KEYED]).await;
    let url = hutch.url().await;
    let (good, bad) = (
        world.key("good", &world.namespace, &[]),
        world.key("bad", "kube-public", &[]),
    );
    soon(&url, &bad, 200).await;
    let secrets = world.api::<Secret>();
    let edit = Patch::Merge(json!({"stringData": {id(&bad): "{\"tenant\": 1}"}}));
    let params = PatchParams::default();
    let edited = secrets.patch("hutch-api-keys", &params, &edit).await;
    edited.unwrap();
    soon(&url, &bad, 401).await;
    assert_eq!(knock_with(&url, &good).await, 200);
    assert!(hutch.log().contains("the key cannot be used"));
    let list = world.hutch_keys(&["list"]).unwrap();
    assert!(
        list.contains(&format!("{}  (cannot be used: ", id(&bad))),
        "{list}"
    );
    world.hutch_keys(&["revoke", id(&bad)]).unwrap();

    let params = DeleteParams::default();
    secrets.delete("hutch-api-keys", &params).await.unwrap();
    soon(&url, &good, 401).await;
}
