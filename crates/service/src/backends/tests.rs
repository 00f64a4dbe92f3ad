//! Sandboxes of backends: created, exposed and deleted.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::is_host;
use crate::fakes::{Fakes, seconds_since};
use crate::{BackendError, ServiceError};
use hutch_api::annotations;
use hutch_core::interfaces::ResourceError;

/// Adds a sandbox that a backend has created, and returns its UID.
fn put_backend(fakes: &Fakes, name: &str) -> String {
    fakes.sandboxes.put_ready(name);
    fakes.sandboxes.edit(name, |it| {
        let note = (annotations::TITLE.to_owned(), "title".to_owned());
        it.metadata.annotations = Some([note].into());
    });
    let stored = fakes.sandboxes.stored(name).unwrap();
    stored.metadata.uid.unwrap()
}

async fn route(fakes: &Fakes, container: &str, domain: &str) -> Result<String, BackendError> {
    let backends = &fakes.service.backends;
    backends.route(container, ("App", domain), 3000).await
}

/// The text of the error with which routing to a sandbox fails.
async fn refusal(fakes: &Fakes, container: &str, domain: &str) -> String {
    let routed = route(fakes, container, domain).await;
    assert!(fakes.exposures.routes().is_empty());
    routed.unwrap_err().to_string()
}

/// The names of the sandboxes that were created and still exist.
fn left(fakes: &Fakes) -> usize {
    let writes = fakes.sandboxes.writes();
    let made = writes.iter().filter_map(|it| it.strip_prefix("create "));
    made.filter(|name| fakes.sandboxes.stored(name).is_some())
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_new_backend_has_the_image_of_its_language_and_its_ports() {
    let fakes = Fakes::new();
    fakes.sandboxes.start_controller(Duration::from_secs(60));
    let made = fakes.service.backends.create("My app", Some("go")).await;
    let made = made.unwrap();
    let stored = fakes.sandboxes.stored(&made.name).unwrap();
    assert_eq!(stored.spec.image.as_deref(), Some("golang"));
    assert_eq!(stored.metadata.uid.as_ref(), Some(&made.id));
    assert_eq!(made.ports, [25_173, 28_888]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(left(&fakes), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_language_creates_nothing_and_names_the_known_ones() {
    let fakes = Fakes::new();
    let error = fakes.service.backends.create("x", Some("cobol")).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "backend_language \"cobol\" is not known; known are go, python"
    );
    assert!(fakes.sandboxes.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_start_within_four_minutes_is_deleted() {
    let fakes = Fakes::new();
    let begin = Instant::now();
    let error = fakes.service.backends.create("x", None).await.unwrap_err();
    assert!(
        error.to_string().contains("not ready after 240s"),
        "{error}"
    );
    assert_eq!(seconds_since(begin), 240);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(left(&fakes), 0);
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_client_leaves_or_that_cannot_be_exposed_is_deleted() {
    let fakes = Fakes::new();
    let client = fakes.service.backends.create("x", None);
    assert!(timeout(Duration::from_secs(1), client).await.is_err());
    sleep(Duration::from_secs(1)).await;
    assert_eq!((fakes.sandboxes.writes().len(), left(&fakes)), (2, 0));

    let fakes = Fakes::new();
    fakes.sandboxes.start_controller(Duration::ZERO);
    let fault = ResourceError::Forbidden("no Services".to_owned());
    fakes.exposures.fail(fault);
    let error = fakes.service.backends.create("x", None).await.unwrap_err();
    assert!(matches!(
        error,
        BackendError::Service(ServiceError::Resource(_))
    ));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(left(&fakes), 0);
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_deleted_by_its_name_or_its_uid() {
    let fakes = Fakes::new();
    put_backend(&fakes, "one");
    let uid = put_backend(&fakes, "two");
    let backends = &fakes.service.backends;
    assert!(backends.delete("one").await.unwrap());
    assert!(backends.delete(&uid).await.unwrap());
    assert!(backends.delete("one").await.unwrap(), "it is gone already");
    assert!(fakes.sandboxes.stored("two").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_another_replica_has_just_created_is_found() {
    let fakes = Fakes::new();
    fakes.sandboxes.hold_cache();
    let uid = put_backend(&fakes, "one");
    assert!(fakes.service.backends.delete(&uid).await.unwrap());
    assert!(fakes.sandboxes.stored("one").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_the_tenant_api_and_an_attached_pod_are_not_deleted() {
    let (fakes, target) = Fakes::with_sandbox("a");
    fakes.attached_pods.put_running("pod");
    let backends = &fakes.service.backends;
    assert!(!backends.delete(&target.name).await.unwrap());
    assert!(!backends.delete("pod").await.unwrap());
    assert!(fakes.sandboxes.stored(&target.name).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_host_is_routed_to_a_port_of_a_backend() {
    let fakes = Fakes::new();
    put_backend(&fakes, "one");
    let host = route(&fakes, "one", "Example.com").await.unwrap();
    assert_eq!(host, "app.example.com");
    assert_eq!(fakes.exposures.routes(), [(host, 3000)]);
}

#[tokio::test(start_paused = true)]
async fn a_host_is_refused_outside_the_allowed_domains_and_if_it_is_no_name() {
    let fakes = Fakes::new();
    put_backend(&fakes, "one");
    assert_eq!(
        refusal(&fakes, "one", "example.org").await,
        "the domain example.org is not served here; served are example.com"
    );
    assert_eq!(
        refusal(&fakes, "one", "exa mple.com").await,
        "\"app.exa mple.com\" is no name of a host"
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_is_not_routed_to_a_sandbox_outside_the_project_api() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let missing = refusal(&fakes, "missing", "example.com").await;
    assert_eq!(missing, "there is no container missing");
    let name = &target.name;
    let foreign = refusal(&fakes, name, "example.com").await;
    assert_eq!(foreign, format!("there is no container {name}"));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_leads_elsewhere_is_refused() {
    let fakes = Fakes::new();
    put_backend(&fakes, "one");
    let other = put_backend(&fakes, "two");
    fakes.exposures.put_host("app.example.com", &other);
    let text = refusal(&fakes, "one", "example.com").await;
    assert_eq!(text, "app.example.com leads to two already");

    let fakes = Fakes::new();
    put_backend(&fakes, "one");
    fakes.exposures.put_host("app.example.com", "");
    let text = refusal(&fakes, "one", "example.com").await;
    assert!(text.contains("something that is not Hutch's"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_host_of_the_sandbox_itself_or_of_a_deleted_one_is_free() {
    let fakes = Fakes::new();
    let uid = put_backend(&fakes, "one");
    let gone = put_backend(&fakes, "gone");
    fakes.sandboxes.remove("gone");
    fakes.exposures.put_host("app.example.com", &uid);
    fakes.exposures.put_host("app.example.com", &gone);
    assert!(route(&fakes, "one", "example.com").await.is_ok());
}

#[test]
fn only_dns_names_are_hosts() {
    assert!(is_host("a.example.com") && is_host("x-1.y"));
    for nonsense in [
        "", "a", "a..b", "-a.b", "a-.b", "a b.c", "a.b\n", "ü.b", "*.b", ".a",
    ] {
        assert!(!is_host(nonsense), "{nonsense:?}");
    }
    assert!(!is_host(&format!("{}.b", "a".repeat(64))));
}
