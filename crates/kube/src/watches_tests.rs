use super::*;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

fn pod(name: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.into());
    pod.metadata.namespace = Some("ns".into());
    pod
}

fn guard(event: Event<Pod>) -> Event<Guarded<Pod>> {
    let good = |pod| Guarded(Ok(pod));
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(pod) => Event::InitApply(good(pod)),
        Event::Apply(pod) => Event::Apply(good(pod)),
        Event::Delete(pod) => Event::Delete(good(pod)),
    }
}

async fn fed(events: Vec<watcher::Result<Event<Pod>>>) -> (Cache<Pod>, Vec<Change>) {
    let (reader, writer) = store();
    let cache = Cache {
        store: reader,
        changes: broadcast::Sender::new(2),
        version: watch::Sender::new(0),
        unreadable: Arc::default(),
    };
    let triggers = cache.triggers();
    cache
        .feed(
            stream::iter(events.into_iter().map(|event| event.map(guard))),
            writer,
            crate::trim::pod,
            WatchErrors::default(),
        )
        .await;
    let seen = triggers.take(3).map(|change| change.as_ref().clone());
    let seen = tokio::time::timeout(Duration::from_millis(50), async {
        let mut seen = std::pin::pin!(seen);
        let mut all = Vec::new();
        while let Ok(Some(change)) =
            tokio::time::timeout(Duration::from_millis(5), seen.next()).await
        {
            all.push(change);
        }
        all
    })
    .await
    .unwrap_or_default();
    (cache, seen)
}

#[tokio::test]
async fn a_cache_is_synced_after_its_first_listing_and_counts_changes() {
    let (cache, _) = fed(vec![Ok(Event::Init), Ok(Event::InitApply(pod("a")))]).await;
    assert!(!cache.synced() && cache.get("ns", "a").is_none());
    let (cache, seen) = fed(vec![
        Ok(Event::Init),
        Ok(Event::InitApply(pod("a"))),
        Ok(Event::InitDone),
        Ok(Event::Apply(pod("b"))),
    ])
    .await;
    assert!(cache.synced() && cache.get("ns", "b").is_some());
    assert_eq!(*cache.changes().borrow(), 2);
    assert_eq!(seen[0], Change::All);
    assert!(matches!(&seen[1], Change::One { name, .. } if name == "b"));
}

#[tokio::test]
async fn a_listener_that_lags_gets_one_change_for_all_objects() {
    let (_, seen) = fed((0..9)
        .map(|i| Ok(Event::Apply(pod(&i.to_string()))))
        .collect())
    .await;
    assert_eq!(seen[0], Change::All);
}

#[tokio::test(start_paused = true)]
async fn an_error_does_not_end_a_watch() {
    let (cache, _) = fed(vec![
        Err(watcher::Error::NoResourceVersion),
        Ok(Event::Init),
        Ok(Event::InitDone),
    ])
    .await;
    assert!(cache.synced());
}

#[test]
fn an_object_belongs_to_the_sandbox_that_controls_it_or_that_its_label_names() {
    let mut owned = pod("x");
    owned.metadata.owner_references = Some(vec![OwnerReference {
        kind: "Sandbox".into(),
        name: "owner".into(),
        controller: Some(true),
        ..Default::default()
    }]);
    owned
        .labels_mut()
        .insert(labels::SANDBOX.into(), "label".into());
    assert_eq!(sandbox_of(&owned).as_deref(), Some("owner"));
    owned.metadata.owner_references = None;
    assert_eq!(sandbox_of(&owned).as_deref(), Some("label"));
    assert_eq!(sandbox_of(&pod("y")), None);
}

/// An API server with two sandboxes, one of which does not decode.
fn server_with_an_unreadable_sandbox() -> Client {
    let sandbox = |name: &str, phase: &str| {
        serde_json::json!({
            "apiVersion": "hutch.dev/v1alpha1",
            "kind": "Sandbox",
            "metadata": { "namespace": "ns", "name": name, "resourceVersion": "1" },
            "spec": {},
            "status": { "phase": phase },
        })
    };
    let list = serde_json::json!({
        "apiVersion": "hutch.dev/v1alpha1",
        "kind": "SandboxList",
        "metadata": { "resourceVersion": "1" },
        "items": [sandbox("future", "Dreaming"), sandbox("good", "Ready")],
    });
    let list = list.to_string();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let list = list.clone();
        async move {
            let watches = request
                .uri()
                .query()
                .is_some_and(|it| it.contains("watch="));
            if watches {
                std::future::pending::<()>().await;
            }
            let body = kube::client::Body::from(list.into_bytes());
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        }
    });
    Client::new(service, "ns")
}

#[tokio::test(start_paused = true)]
async fn an_object_that_does_not_decode_stops_the_watch_of_nobody_else() {
    let client = server_with_an_unreadable_sandbox();
    let mut watches = Watches::new(client, &mut Registry::default());
    let config = watcher::Config::default();
    let cache: Cache<hutch_api::Sandbox> = watches.namespaced(Some("ns"), config, |_| ());
    let filled = tokio::time::timeout(Duration::from_secs(60), cache.first_listing()).await;
    assert!(filled.is_ok(), "the first listing never ends");
    assert!(cache.get("ns", "good").is_some());
    assert!(cache.get("ns", "future").is_none() && cache.is_unreadable("ns", "future"));
    watches.stop().await;
}
