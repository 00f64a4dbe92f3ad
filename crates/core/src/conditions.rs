//! Conditions of a status: their types, their construction, and their transition times.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The sandbox answers commands.
pub const READY: &str = "Ready";
/// The workspace exists.
pub const WORKSPACE_READY: &str = "WorkspaceReady";
/// The pod runs.
pub const POD_READY: &str = "PodReady";
/// The agent in the pod runs.
pub const AGENT_READY: &str = "AgentReady";
/// Every bucket of the spec is mounted and answers.
pub const BUCKETS_READY: &str = "BucketsReady";
/// A change of the spec waits for the next start of the pod.
pub const RESTART_PENDING: &str = "RestartPending";
/// `projects.container_name` is correct. The projector writes it.
pub const DATABASE_SYNCED: &str = "DatabaseSynced";

/// Longest message in bytes. A longer one is cut.
const MAX_MESSAGE_BYTES: usize = 1024;

/// A condition of generation `generation` since `now`. `holds` becomes the condition's
/// status: true, false, or `None` for unknown.
pub fn condition(
    kind: &str,
    holds: Option<bool>,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let mut message = message.into();
    if message.len() > MAX_MESSAGE_BYTES {
        let mut end = MAX_MESSAGE_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(now),
    }
}

/// Returns `new` with the transition times of the conditions in `old` that have the same
/// status.
pub fn carry_over(old: &[Condition], mut new: Vec<Condition>) -> Vec<Condition> {
    for condition in &mut new {
        if let Some(before) = find(old, &condition.type_)
            && before.status == condition.status
        {
            condition.last_transition_time = before.last_transition_time.clone();
        }
    }
    new
}

/// The condition of type `kind`.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// True if the condition of type `kind` exists and is true.
pub fn holds(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_transition_time_until_its_status_changes() {
        let old = vec![condition(
            READY,
            Some(false),
            "Starting",
            "",
            Some(1),
            at(1),
        )];
        let same = vec![condition(READY, Some(false), "Pulling", "", Some(2), at(5))];
        let other = vec![condition(READY, Some(true), "Ready", "", Some(2), at(5))];
        assert_eq!(carry_over(&old, same)[0].last_transition_time.0, at(1));
        assert_eq!(carry_over(&old, other)[0].last_transition_time.0, at(5));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = condition(READY, None, "Long", "用".repeat(1000), None, at(0));
        assert!(cut.message.len() < 1100 && cut.message.ends_with('…'));
        assert_eq!(cut.status, "Unknown");
    }
}
