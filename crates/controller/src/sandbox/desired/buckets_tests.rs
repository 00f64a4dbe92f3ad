use k8s_openapi::api::core::v1::PersistentVolumeStatus;

use super::*;
use crate::sandbox::fixtures::{bucket, sandbox};
use hutch_core::s3::AllowedEndpoints;

fn settings(driver: &str) -> BucketSettings {
    BucketSettings {
        csi_driver: driver.into(),
        operator_namespace: "hutch-system".into(),
        ..Default::default()
    }
}

const YANDEX: &str = "ru.yandex.s3.csi";
const OURS: &str = hutch_api::CSI_DRIVER;

fn with(
    driver: &str,
    which: Volumes,
    changes: &[fn(&mut Bucket)],
) -> Result<Vec<BucketVolume>, Problem> {
    let buckets = changes.iter().enumerate().map(|(i, change)| {
        let mut bucket = bucket(&format!("data-{i}"));
        change(&mut bucket);
        bucket
    });
    let buckets = buckets.collect();
    volumes(
        &sandbox(|spec| spec.buckets = buckets),
        &settings(driver),
        which,
    )
}

fn refused(driver: &str, which: Volumes, change: fn(&mut Bucket)) -> Reason {
    with(driver, which, &[change]).unwrap_err().reason
}

#[test]
fn a_bucket_of_a_client_or_with_s3fs_options_is_mounted_live() {
    let count = |driver, which, change| with(driver, which, &[change]).unwrap().len();
    let of_a_client: fn(&mut Bucket) =
        |b| b.credentials_secret_ref.namespace = Some("hutch-system".into());
    let tuned: fn(&mut Bucket) = |b| b.options = vec!["multipart_size=64".into()];
    for driver in [OURS, YANDEX] {
        assert_eq!(count(driver, Volumes::None, |_| ()), 0);
        assert_eq!(count(driver, Volumes::Declared, |_| ()), 1);
        assert_eq!(count(driver, Volumes::Declared, of_a_client), 0);
        assert_eq!(count(driver, Volumes::All, of_a_client), 1);
    }
    assert_eq!(count(OURS, Volumes::Declared, tuned), 1);
    assert_eq!(count(YANDEX, Volumes::Declared, tuned), 0);
    assert_eq!(refused(YANDEX, Volumes::All, tuned), Reason::BadOption);
}

#[test]
fn a_bucket_that_cannot_be_a_volume_is_refused() {
    let http: fn(&mut Bucket) = |b| b.endpoint = "http://s3.example.com".into();
    assert_eq!(
        refused(YANDEX, Volumes::Declared, http),
        Reason::InsecureEndpoint
    );
    let no_url: fn(&mut Bucket) = |b| b.endpoint = "s3.example.com".into();
    assert_eq!(refused(OURS, Volumes::Declared, no_url), Reason::BadOption);
    let quoted: fn(&mut Bucket) = |b| b.options = vec!["a=\"".into()];
    assert_eq!(refused(OURS, Volumes::Declared, quoted), Reason::BadOption);
    let same: fn(&mut Bucket) = |b| b.bucket = "same".into();
    let twice = with(OURS, Volumes::Declared, &[same, same]).unwrap_err();
    assert_eq!((twice.reason, twice.failed), (Reason::HandleInUse, true));
    assert!(twice.message.contains("data-0") && twice.message.contains("data-1"));

    let allowed = BucketSettings {
        endpoints: AllowedEndpoints::HttpAndHttps,
        ..settings(YANDEX)
    };
    let mut insecure = bucket("data");
    http(&mut insecure);
    let sandbox = sandbox(|spec| spec.buckets = vec![insecure]);
    assert!(volumes(&sandbox, &allowed, Volumes::Declared).is_ok());
}

#[test]
fn a_volume_conflicts_with_others_of_the_same_handle() {
    let one = |driver, change: fn(&mut Bucket)| {
        let same: fn(&mut Bucket) = |b| b.bucket = "same".into();
        let mut bucket = bucket("x");
        same(&mut bucket);
        change(&mut bucket);
        let sandbox = sandbox(|spec| spec.buckets = vec![bucket]);
        volumes(&sandbox, &settings(driver), Volumes::All)
            .unwrap()
            .remove(0)
    };
    for (driver, modes_clash) in [(OURS, false), (YANDEX, true)] {
        let volume = one(driver, |_| ());
        let pv = |other: &BucketVolume| other.persistent_volume("u", &settings(driver));
        assert!(!volume.conflicts_with(&pv(&volume)) && volume.matches(&pv(&volume)));
        assert!(!volume.conflicts_with(&pv(&one(driver, |b| b.prefix = Some("/a".into())))));
        assert!(volume.conflicts_with(&pv(&one(driver, |b| b.endpoint = "https://x".into()))));
        assert!(volume.conflicts_with(&pv(
            &one(driver, |b| b.credentials_secret_ref.name = "x".into())
        )));
        let other_mode = pv(&one(driver, |b| b.read_only = true));
        assert_eq!(volume.conflicts_with(&other_mode), modes_clash);

        let mut elsewhere = pv(&volume);
        let claim = elsewhere.spec.as_mut().unwrap().claim_ref.as_mut().unwrap();
        claim.namespace = Some("other".into());
        assert!(volume.conflicts_with(&elsewhere));
        let shown = volume.conflict(&elsewhere).message;
        assert!(!shown.contains(&elsewhere.name_any()), "{shown}");
        elsewhere.status = Some(PersistentVolumeStatus {
            phase: Some("Released".into()),
            ..Default::default()
        });
        assert!(!volume.conflicts_with(&elsewhere));

        let mut foreign = pv(&volume);
        foreign.metadata.labels = None;
        assert!(volume.conflicts_with(&foreign) && !volume.matches(&foreign));
    }
}
