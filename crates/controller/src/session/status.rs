//! What a SandboxSession's status says. Pure.

use k8s_openapi::jiff::Timestamp;

use hutch_api::{SandboxSession, SandboxSessionStatus};
use hutch_core::conditions::{READY, carry_over, condition};

/// What there is to say of a session. Never in an agent's words, which could be
/// others each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is no such sandbox.
    NoSandbox,
    /// An older resource stands for the same session.
    Duplicate(String),
    /// The sandbox does not answer yet.
    NotReady,
    /// The sandbox should answer, and does not.
    Unreachable,
    /// The sandbox does not take the session; why.
    Refused(&'static str),
    /// The session that it stood for has ended, and so it goes.
    Ended,
    /// It stands for a session, in a pod that may sleep by now.
    Open,
}

/// The controller's part of the status of `session`.
pub fn status(session: &SandboxSession, seen: &Seen, now: Timestamp) -> SandboxSessionStatus {
    let (sandbox, id) = (&session.spec.sandbox_name, &session.spec.id);
    let (ready, reason, message) = match seen {
        Seen::NoSandbox => (
            false,
            "SandboxNotFound",
            format!("there is no sandbox {sandbox}"),
        ),
        Seen::Duplicate(other) => (
            false,
            "Duplicate",
            format!(
                "{other} stands for the session {id:?} of {sandbox} already: delete one of the two"
            ),
        ),
        Seen::NotReady => (
            false,
            "SandboxNotReady",
            format!("the sandbox {sandbox} is not ready yet"),
        ),
        Seen::Unreachable => (
            false,
            "SandboxUnreachable",
            format!(
                "the agent of {sandbox} cannot be asked: may Hutch exec into pods of this namespace?"
            ),
        ),
        Seen::Refused(why) => (
            false,
            "Refused",
            format!("the sandbox {sandbox} does not take the session: {why}"),
        ),
        Seen::Ended => (false, "Ended", "the session has ended".to_owned()),
        Seen::Open => (
            true,
            "Open",
            "commands can be run in the session; one that comes while the sandbox sleeps wakes it"
                .to_owned(),
        ),
    };
    let old = session.status.as_ref();
    let kept = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let generation = session.metadata.generation;
    let ready = condition(READY, Some(ready), reason, message, generation, now);
    SandboxSessionStatus {
        conditions: carry_over(kept, vec![ready]),
        observed_generation: generation,
        ..Default::default()
    }
}

/// Whether `status` says anything that the session does not say yet.
pub fn worth_writing(session: &SandboxSession, status: &SandboxSessionStatus) -> bool {
    session.status.as_ref().is_none_or(|old| {
        old.conditions != status.conditions || old.observed_generation != status.observed_generation
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_api::SandboxSessionSpec;

    fn session() -> SandboxSession {
        let spec = SandboxSessionSpec {
            sandbox_name: "box".into(),
            id: "s".into(),
            ..Default::default()
        };
        SandboxSession::new("s", spec)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_session_says_what_stands_in_its_way_and_says_it_once() {
        let mut session = session();
        let first = status(&session, &Seen::NoSandbox, at(1));
        assert_eq!(first.conditions[0].reason, "SandboxNotFound");
        assert!(worth_writing(&session, &first));
        session.status = Some(first);
        let again = status(&session, &Seen::NoSandbox, at(9));
        assert!(!worth_writing(&session, &again));
        let open = status(&session, &Seen::Open, at(9));
        assert!(worth_writing(&session, &open));
        assert_eq!(open.conditions[0].status, "True");
    }

    #[test]
    fn what_the_facade_has_written_is_no_reason_to_write() {
        let mut session = session();
        let seen = Seen::Open;
        let open = status(&session, &seen, at(1));
        session.status = Some(SandboxSessionStatus {
            working_directory: Some("/workspace".into()),
            ..open
        });
        assert!(!worth_writing(&session, &status(&session, &seen, at(2))));
    }
}
