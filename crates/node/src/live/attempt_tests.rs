use super::*;
use crate::Error;
use hutch_api::BucketPhase;
use hutch_core::reasons::Reason;

fn entry() -> EntryKey {
    EntryKey {
        digest: "d".into(),
        container: "c".into(),
    }
}

fn refused(history: MountHistory) -> Observation {
    Observation::not_mounted(&Error::AccessDenied("403".into()), history)
}

fn phase(attempt: &MountAttempt) -> Option<BucketPhase> {
    attempt.observed().map(|observed| observed.phase)
}

fn reason(attempt: &MountAttempt) -> Option<Reason> {
    attempt.observed().and_then(Observation::reason)
}

#[test]
fn the_first_attempt_is_due_at_once_and_reports_nothing() {
    let now = Instant::now();
    let attempt = MountAttempt::live(entry(), now);
    assert!(!attempt.is_volume() && !attempt.is_mounted());
    assert_eq!(attempt.wait(now), Duration::ZERO);
    assert_eq!(attempt.observed(), None);
    assert_eq!(attempt.history(), MountHistory::NeverMounted);
}

#[test]
fn the_wait_after_a_failure_doubles_up_to_thirty_seconds() {
    let now = Instant::now();
    let mut attempt = MountAttempt::live(entry(), now);
    let waits: Vec<_> = (1..=7)
        .map(|count| {
            let failures = attempt.failed(now, refused(attempt.history()));
            assert_eq!(failures, count);
            attempt.wait(now).as_secs()
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(phase(&attempt), Some(BucketPhase::Failed));
}

#[test]
fn a_mount_that_was_lost_is_degraded_and_its_failures_count_from_one() {
    let now = Instant::now();
    let mut attempt = MountAttempt::live(entry(), now);
    attempt.failed(now, refused(attempt.history()));
    attempt.failed(now, refused(attempt.history()));
    attempt.mounted(now);
    assert!(attempt.is_mounted());
    assert_eq!(phase(&attempt), Some(BucketPhase::Mounted));
    for failures in 1..=2 {
        assert_eq!(attempt.history(), MountHistory::MountedBefore);
        let observed = refused(attempt.history());
        assert_eq!(attempt.failed(now, observed), failures);
        assert_eq!(phase(&attempt), Some(BucketPhase::Degraded));
    }
}

#[test]
fn the_end_of_the_container_delays_an_attempt_and_changes_no_state() {
    let now = Instant::now();
    let mut attempt = MountAttempt::live(entry(), now);
    attempt.mounted(now);
    attempt.container_gone(now);
    assert!(attempt.is_mounted());
    assert_eq!(attempt.wait(now), MIN_RETRY);
}

#[test]
fn the_secret_of_a_mounted_bucket_is_checked_once_per_interval() {
    let now = Instant::now();
    let mut attempt = MountAttempt::live(entry(), now);
    assert!(!attempt.take_rekey(now + REKEY_INTERVAL, Duration::ZERO));
    attempt.mounted(now);
    assert!(!attempt.take_rekey(now, Duration::ZERO));
    assert!(
        attempt.take_rekey(now, REKEY_INTERVAL),
        "a check ahead of time"
    );
    let later = now + REKEY_INTERVAL;
    assert!(attempt.take_rekey(later, Duration::ZERO));
    assert!(!attempt.take_rekey(later, Duration::ZERO));
}

#[test]
fn unusable_new_credentials_are_reported_while_the_mount_answers() {
    let now = Instant::now();
    let mut attempt = MountAttempt::live(entry(), now);
    attempt.mounted(now);
    attempt.rekeyed(refused(MountHistory::MountedBefore).failure);
    attempt.answers();
    assert_eq!(phase(&attempt), Some(BucketPhase::Mounted));
    assert_eq!(reason(&attempt), Some(Reason::AccessDenied));
    let silent = Error::Unreachable("x".into());
    attempt.observe(Observation::not_answering(&silent));
    assert_eq!(reason(&attempt), Some(Reason::EndpointUnreachable));
    attempt.rekeyed(None);
    attempt.answers();
    assert_eq!(reason(&attempt), None);
}

#[test]
fn a_new_mount_forgets_why_other_credentials_were_not_used() {
    let now = Instant::now();
    let mut attempt = MountAttempt::live(entry(), now);
    attempt.mounted(now);
    attempt.rekeyed(refused(MountHistory::MountedBefore).failure);
    attempt.mounted(now);
    attempt.answers();
    assert_eq!(reason(&attempt), None);
}

#[test]
fn a_volume_that_is_missing_at_two_looks_in_a_row_becomes_a_live_mount() {
    let now = Instant::now();
    let mut attempt = MountAttempt::volume(entry(), now);
    attempt.see_volume(VolumeSight::Missing);
    assert!(attempt.is_volume() && attempt.is_missing());
    attempt.see_volume(VolumeSight::Mounted);
    assert!(attempt.is_volume() && !attempt.is_missing());
    attempt.see_volume(VolumeSight::Missing);
    let silent = Error::Unreachable("x".into());
    attempt.observe(Observation::not_answering(&silent));
    attempt.see_volume(VolumeSight::Missing);
    assert!(!attempt.is_volume() && !attempt.is_missing());
    assert_eq!(attempt.wait(now), Duration::ZERO);
    assert_eq!(
        phase(&attempt),
        Some(BucketPhase::Degraded),
        "the volume's observation stays until an attempt has ended"
    );
    attempt.see_volume(VolumeSight::Mounted);
    assert!(!attempt.is_volume(), "it does not become a volume again");
}

#[test]
fn a_live_mount_of_an_earlier_process_replaces_the_volume_at_once() {
    let mut attempt = MountAttempt::volume(entry(), Instant::now());
    attempt.see_volume(VolumeSight::LiveMount);
    assert!(!attempt.is_volume());
}

#[test]
fn a_check_of_a_bucket_that_is_not_mounted_is_not_recorded() {
    let now = Instant::now();
    let mut attempt = MountAttempt::live(entry(), now);
    attempt.answers();
    assert_eq!(attempt.observed(), None);
    attempt.failed(now, refused(attempt.history()));
    attempt.answers();
    assert_eq!(phase(&attempt), Some(BucketPhase::Failed));
}
