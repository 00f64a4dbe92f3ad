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

async fn fed(events: Vec<watcher::Result<Event<Pod>>>) -> (Cache<Pod>, Vec<Change>) {
    let (reader, writer) = store();
    let cache = Cache {
        store: reader,
        changes: broadcast::Sender::new(2),
        version: watch::Sender::new(0),
    };
    let triggers = cache.triggers();
    cache
        .feed(
            stream::iter(events),
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
async fn a_listener_that_lags_is_told_to_look_at_everything() {
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
fn an_object_belongs_to_its_controller_or_to_its_label() {
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
