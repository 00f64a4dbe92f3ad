//! The times at which a sandbox falls asleep, wakes and ends, as functions of its spec, its
//! status and the time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use hutch_api::{Sandbox, SandboxStatus};

/// Longest duration that any field or setting accepts: one year.
pub const MAX_DURATION: Duration = Duration::from_secs(8760 * 3600);

/// Parses a duration of a user: a whole number with `s`, `m` or `h`. `None` for anything
/// else, for zero and for more than [`MAX_DURATION`].
pub fn parse(text: &str) -> Option<Duration> {
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    let duration = Duration::from_secs(seconds);
    (seconds > 0 && duration <= MAX_DURATION).then_some(duration)
}

/// Writes a duration as [`parse`] reads it, in the largest exact unit. It is rounded up to a
/// second.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    match seconds {
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// The time at which the sandbox must be deleted, if it has a time to live.
pub fn expires_at(sandbox: &Sandbox) -> Option<Timestamp> {
    let ttl = sandbox.spec.lifecycle.ttl.as_deref().and_then(parse)?;
    later(sandbox.metadata.creation_timestamp.as_ref()?.0, ttl)
}

/// The time at which a running sandbox falls asleep, if it has an idle timeout. The timeout
/// counts from the start or the last activity, whichever is later.
pub fn sleeps_at(sandbox: &Sandbox) -> Option<Timestamp> {
    let lifecycle = &sandbox.spec.lifecycle;
    if lifecycle.keep_alive {
        return None;
    }
    let idle = lifecycle.idle_timeout.as_deref().and_then(parse)?;
    let status = sandbox.status.as_ref()?;
    let started = status.started_at.as_ref()?.0;
    let used = status.last_activity.as_ref().map_or(started, |t| t.0);
    later(started.max(used), idle)
}

/// True if the sandbox is asleep: its idle timeout has passed, nobody has used it since, and
/// its spec still has the timeout.
pub fn is_asleep(sandbox: &Sandbox) -> bool {
    let lifecycle = &sandbox.spec.lifecycle;
    let Some(SandboxStatus {
        slept_at: Some(slept),
        last_activity,
        ..
    }) = &sandbox.status
    else {
        return false;
    };
    let used_since = last_activity.as_ref().is_some_and(|used| used.0 > slept.0);
    !used_since && !lifecycle.keep_alive && lifecycle.idle_timeout.is_some()
}

fn later(time: Timestamp, by: Duration) -> Option<Timestamp> {
    time.checked_add(SignedDuration::try_from(by).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use hutch_api::{Lifecycle, SandboxSpec};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sandbox(lifecycle: Lifecycle, status: SandboxStatus) -> Sandbox {
        let mut sandbox = Sandbox::new(
            "x",
            SandboxSpec {
                lifecycle,
                ..Default::default()
            },
        );
        sandbox.metadata.creation_timestamp = Some(Time(at(100)));
        sandbox.status = Some(status);
        sandbox
    }

    fn idle(timeout: &str) -> Lifecycle {
        Lifecycle {
            idle_timeout: Some(timeout.into()),
            ..Default::default()
        }
    }

    #[test]
    fn durations_are_whole_numbers_with_a_unit_up_to_a_year() {
        assert_eq!(parse("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse("10m"), Some(Duration::from_secs(600)));
        assert_eq!(parse("1h"), Some(Duration::from_secs(3600)));
        for nonsense in [
            "",
            "s",
            "0s",
            "-1s",
            "1",
            "1d",
            "1.5h",
            "8761h",
            "99999999999999999999h",
            "１s",
        ] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_formatted_duration_reads_back_as_itself() {
        for seconds in [1, 59, 60, 90, 3600, 5400, 7200] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse(&format(duration)), Some(duration));
        }
    }

    #[test]
    fn idleness_counts_from_the_start_or_the_last_activity() {
        let started = SandboxStatus {
            started_at: Some(Time(at(200))),
            ..Default::default()
        };
        assert_eq!(
            sleeps_at(&sandbox(idle("30s"), started.clone())),
            Some(at(230))
        );
        let used = SandboxStatus {
            last_activity: Some(Time(at(250))),
            ..started.clone()
        };
        assert_eq!(sleeps_at(&sandbox(idle("30s"), used)), Some(at(280)));
        let kept = Lifecycle {
            keep_alive: true,
            ..idle("30s")
        };
        assert_eq!(sleeps_at(&sandbox(kept, started)), None);
    }

    #[test]
    fn a_sleeping_sandbox_wakes_when_it_is_used_or_told_to_stay_awake() {
        let slept = SandboxStatus {
            slept_at: Some(Time(at(300))),
            last_activity: Some(Time(at(250))),
            ..Default::default()
        };
        assert!(is_asleep(&sandbox(idle("30s"), slept.clone())));
        let used = SandboxStatus {
            last_activity: Some(Time(at(301))),
            ..slept.clone()
        };
        assert!(!is_asleep(&sandbox(idle("30s"), used)));
        assert!(!is_asleep(&sandbox(
            Lifecycle {
                keep_alive: true,
                ..idle("30s")
            },
            slept.clone()
        )));
        assert!(!is_asleep(&sandbox(Lifecycle::default(), slept)));
    }

    #[test]
    fn a_time_to_live_counts_from_creation() {
        let lifecycle = Lifecycle {
            ttl: Some("1h".into()),
            ..Default::default()
        };
        assert_eq!(
            expires_at(&sandbox(lifecycle, SandboxStatus::default())),
            Some(at(3700))
        );
    }
}
