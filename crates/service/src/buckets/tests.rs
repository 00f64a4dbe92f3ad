//! Mounts and unmounts of a running sandbox.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::{Instant, sleep, timeout};

use crate::fakes::{Fakes, credentials, pod_of, seconds_since, settings};
use crate::{BucketError, Mount, Target};
use hutch_api::{Bucket, BucketPhase, BucketStatus, Mechanism};
use hutch_core::buckets::digest;
use hutch_core::interfaces::ResourceError;
use hutch_core::names;

fn mount() -> Mount {
    Mount {
        bucket: "data".to_owned(),
        path: "/data".to_owned(),
        prefix: None,
        endpoint: "https://s3.example.com".to_owned(),
        provider: Some("r2".to_owned()),
        read_only: true,
        options: vec!["use_cache=/tmp".to_owned()],
        credentials: Some(credentials()),
    }
}

fn status(bucket: &Bucket, phase: BucketPhase) -> BucketStatus {
    BucketStatus {
        name: bucket.name.clone(),
        phase,
        mechanism: Some(Mechanism::Live),
        since: None,
        last_check: None,
        reason: None,
        error: None,
        container_id: None,
        digest: Some(digest(bucket)),
    }
}

/// Sets the status of all buckets of the spec.
fn report(fakes: &Fakes, target: &Target, change: impl Fn(&mut BucketStatus)) {
    fakes.sandboxes.edit(&target.name, |it| {
        let all = it.spec.buckets.iter();
        let all = all.map(|bucket| {
            let mut status = status(bucket, BucketPhase::Mounted);
            change(&mut status);
            status
        });
        it.status.get_or_insert_default().buckets = all.collect();
    });
}

/// A node component that mounts and unmounts what the spec says after two seconds.
fn start_node(fakes: &Fakes, target: &Target, change: impl Fn(&mut BucketStatus) + Send + 'static) {
    let (sandboxes, name) = (fakes.sandboxes.clone(), target.name.clone());
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(2)).await;
            sandboxes.edit(&name, |it| {
                let all = it.spec.buckets.iter();
                let all = all.map(|bucket| {
                    let mut status = status(bucket, BucketPhase::Mounted);
                    change(&mut status);
                    status
                });
                it.status.get_or_insert_default().buckets = all.collect();
            });
        }
    });
}

async fn try_mount(fakes: &Fakes, target: &Target, mount: Mount) -> Result<(), BucketError> {
    let buckets = &fakes.service.buckets;
    buckets.mount(target.clone(), None, mount).await
}

async fn try_unmount(fakes: &Fakes, target: &Target) -> Result<(), BucketError> {
    let buckets = &fakes.service.buckets;
    buckets.unmount(target.clone(), "/data").await
}

fn spec_buckets(fakes: &Fakes, target: &Target) -> Vec<Bucket> {
    fakes.sandboxes.stored(&target.name).unwrap().spec.buckets
}

/// A sandbox with a mounted bucket.
async fn mounted() -> (Fakes, Target) {
    let (fakes, target) = Fakes::with_sandbox("a");
    let report = async {
        sleep(Duration::from_secs(1)).await;
        report(&fakes, &target, |_| ());
    };
    let (mounted, ()) = tokio::join!(try_mount(&fakes, &target, mount()), report);
    mounted.unwrap();
    (fakes, target)
}

#[tokio::test(start_paused = true)]
async fn a_mount_is_a_secret_and_an_entry_in_the_spec_and_waits_until_it_is_mounted() {
    let (fakes, target) = Fakes::with_sandbox("a");
    start_node(&fakes, &target, |_| ());
    let begin = Instant::now();
    try_mount(&fakes, &target, mount()).await.unwrap();
    assert_eq!(seconds_since(begin), 2);
    let buckets = spec_buckets(&fakes, &target);
    assert_eq!(buckets.len(), 1);
    assert_eq!(buckets[0].name, names::bucket("/data"));
    assert_eq!(buckets[0].provider, hutch_api::BucketProvider::R2);
    assert!(buckets[0].read_only);
    let secret = &buckets[0].credentials_secret_ref.name;
    assert_eq!(fakes.secrets.names(), std::slice::from_ref(secret));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_has_a_mount_is_refused_before_anything_is_written() {
    let (fakes, target) = mounted().await;
    let other = Mount {
        bucket: "other".to_owned(),
        ..mount()
    };
    let error = try_mount(&fakes, &target, other).await.unwrap_err();
    assert_eq!(error.to_string(), "/data is mounted already: data");
    assert_eq!(fakes.secrets.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_second_of_two_mounts_at_one_path_fails_and_takes_its_secret_back() {
    let (fakes, target) = Fakes::with_sandbox("a");
    start_node(&fakes, &target, |_| ());
    let (first, second) = tokio::join!(
        try_mount(&fakes, &target, mount()),
        try_mount(&fakes, &target, mount())
    );
    first.unwrap();
    let error = second.unwrap_err();
    assert_eq!(error.to_string(), "/data is mounted already");
    assert!(matches!(error, BucketError::Invalid(_)));
    assert_eq!(fakes.secrets.made(), 2);
    let left = &spec_buckets(&fakes, &target)[0].credentials_secret_ref;
    assert_eq!(fakes.secrets.names(), std::slice::from_ref(&left.name));
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_the_api_server_refuses_is_an_invalid_request_and_leaves_no_secret() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let fault = ResourceError::Invalid("spec.buckets: no".to_owned());
    fakes.sandboxes.fail_only("add bucket", fault);
    let error = try_mount(&fakes, &target, mount()).await.unwrap_err();
    assert!(matches!(error, BucketError::Invalid(text) if text == "spec.buckets: no"));
    assert_eq!(fakes.secrets.made(), 1);
    assert!(fakes.secrets.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_is_not_complete_in_time_is_rolled_back_and_says_why() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let begin = Instant::now();
    let error = try_mount(&fakes, &target, mount()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bucket was not mounted within 12s: is `hutch-node` running on the sandbox's node?"
    );
    assert_eq!(seconds_since(begin), 12);
    assert!(spec_buckets(&fakes, &target).is_empty());
    assert!(fakes.secrets.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_fails_is_rolled_back_with_the_error_of_the_mounter() {
    let (fakes, target) = Fakes::with_sandbox("a");
    start_node(&fakes, &target, |status| {
        status.phase = BucketPhase::Failed;
        status.reason = Some("AccessDenied".to_owned());
        status.error = Some("the key is wrong".to_owned());
    });
    let error = try_mount(&fakes, &target, mount()).await.unwrap_err();
    assert!(matches!(&error, BucketError::Failed(text) if text == "the key is wrong"));
    assert!(spec_buckets(&fakes, &target).is_empty());
    assert!(fakes.secrets.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_the_mounter_decides_the_kind_of_the_error() {
    for (reason, is_expected) in [
        (
            "NoMounter",
            (|it| matches!(it, BucketError::Unsupported(_))) as fn(&BucketError) -> bool,
        ),
        ("BadOption", |it| matches!(it, BucketError::Invalid(_))),
        ("PathTaken", |it| matches!(it, BucketError::Invalid(_))),
        ("InsecureEndpoint", |it| {
            matches!(it, BucketError::Invalid(_))
        }),
        ("NoSuchBucket", |it| matches!(it, BucketError::Failed(_))),
    ] {
        let (fakes, target) = Fakes::with_sandbox("a");
        start_node(&fakes, &target, move |status| {
            status.phase = BucketPhase::Failed;
            status.reason = Some(reason.to_owned());
            status.error = Some("no".to_owned());
        });
        let error = try_mount(&fakes, &target, mount()).await.unwrap_err();
        assert!(is_expected(&error), "{reason}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_of_an_earlier_entry_does_not_count() {
    let (fakes, target) = Fakes::with_sandbox("a");
    start_node(&fakes, &target, |status| {
        status.digest = Some("of another".to_owned());
    });
    let error = try_mount(&fakes, &target, mount()).await.unwrap_err();
    assert!(error.to_string().contains("within 12s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_mount_goes_on_when_its_client_leaves() {
    let (fakes, target) = Fakes::with_sandbox("a");
    start_node(&fakes, &target, |_| ());
    let client = try_mount(&fakes, &target, mount());
    assert!(timeout(Duration::from_secs(1), client).await.is_err());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(spec_buckets(&fakes, &target).len(), 1);
    assert_eq!(fakes.secrets.names().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mount_needs_credentials_and_https() {
    let mut settings = settings();
    settings.buckets.credentials = None;
    let fakes = Fakes::with(settings);
    let target = Target::tenant("a");
    fakes.sandboxes.put_ready(&target.name);
    let without = Mount {
        credentials: None,
        ..mount()
    };
    let error = try_mount(&fakes, &target, without).await.unwrap_err();
    assert!(error.to_string().starts_with("Missing credentials: "));
    let insecure = Mount {
        endpoint: "http://s3".to_owned(),
        ..mount()
    };
    let error = try_mount(&fakes, &target, insecure).await.unwrap_err();
    assert!(error.to_string().starts_with("Invalid endpoint: "));
    assert_eq!(fakes.secrets.made(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_mount_without_credentials_uses_those_of_the_settings() {
    let (fakes, target) = Fakes::with_sandbox("a");
    start_node(&fakes, &target, |_| ());
    let without = Mount {
        credentials: None,
        ..mount()
    };
    try_mount(&fakes, &target, without).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mount_never_creates_a_sandbox_or_a_session() {
    let fakes = Fakes::new();
    let error = try_mount(&fakes, &Target::tenant("a"), mount()).await;
    assert!(matches!(error, Err(BucketError::NotFound(_))), "{error:?}");
    assert!(fakes.sandboxes.writes().is_empty());
    let (fakes, target) = Fakes::with_sandbox("a");
    start_node(&fakes, &target, |_| ());
    let pod = pod_of(&fakes.sandboxes, &target.name);
    fakes.agents.put_session(&pod, "known", None);
    let buckets = &fakes.service.buckets;
    let unknown = buckets.mount(target.clone(), Some("unknown"), mount());
    let error = unknown.await.unwrap_err();
    assert_eq!(error.to_string(), "Sandbox or session not found");
    let known = buckets.mount(target, Some("known"), mount());
    known.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unmount_waits_for_the_node_and_deletes_the_secret() {
    let (fakes, target) = mounted().await;
    start_node(&fakes, &target, |_| ());
    let begin = Instant::now();
    try_unmount(&fakes, &target).await.unwrap();
    assert_eq!(seconds_since(begin), 2);
    assert!(spec_buckets(&fakes, &target).is_empty());
    assert!(fakes.secrets.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_is_in_use_stays_with_its_secret() {
    let (fakes, target) = mounted().await;
    let busy = async {
        sleep(Duration::from_secs(1)).await;
        fakes.sandboxes.edit(&target.name, |it| {
            let status = it.status.get_or_insert_default();
            status.buckets[0].phase = BucketPhase::Busy;
        });
    };
    let (unmounted, ()) = tokio::join!(try_unmount(&fakes, &target), busy);
    let error = unmounted.unwrap_err();
    assert!(matches!(error, BucketError::Busy(_)), "{error:?}");
    assert_eq!(spec_buckets(&fakes, &target).len(), 1);
    assert_eq!(fakes.secrets.names().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unmount_that_does_not_end_fails_after_15_s_and_the_mount_stays() {
    let (fakes, target) = mounted().await;
    let begin = Instant::now();
    let error = try_unmount(&fakes, &target).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "/data could not be unmounted within 15s, and stays mounted"
    );
    assert_eq!(seconds_since(begin), 15);
    assert_eq!(spec_buckets(&fakes, &target).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_of_a_sandbox_that_sleeps_is_unmounted_at_once() {
    let (fakes, target) = mounted().await;
    fakes.sandboxes.edit(&target.name, |it| {
        it.status.get_or_insert_default().phase = hutch_api::Phase::Suspended;
    });
    let begin = Instant::now();
    try_unmount(&fakes, &target).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(fakes.secrets.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_no_node_component_checks_cannot_be_unmounted() {
    let (fakes, target) = mounted().await;
    report(&fakes, &target, |status| {
        status.mechanism = Some(Mechanism::Csi);
    });
    let error = try_unmount(&fakes, &target).await.unwrap_err();
    assert!(matches!(error, BucketError::Unsupported(_)), "{error:?}");
    assert_eq!(spec_buckets(&fakes, &target).len(), 1);
    report(&fakes, &target, |status| {
        status.mechanism = Some(Mechanism::Csi);
        status.last_check = Some(Time(Timestamp::now()));
    });
    start_node(&fakes, &target, |_| ());
    try_unmount(&fakes, &target).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_path_without_a_mount_cannot_be_unmounted() {
    let (fakes, target) = Fakes::with_sandbox("a");
    let error = try_unmount(&fakes, &target).await.unwrap_err();
    assert_eq!(error.to_string(), "no bucket is mounted at /data");
}
