//! The status of a SandboxSession: a pure function.

use k8s_openapi::jiff::Timestamp;

use hutch_api::{SandboxSession, SandboxSessionStatus};
use hutch_core::conditions::{READY, carry_over, condition};
use hutch_core::reasons::Reason;

/// The state of a session, as its condition reports it. It never contains a text of
/// the agent: that may differ each time, and each difference would be a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The sandbox does not exist.
    NoSandbox,
    /// An older resource, with this name, represents the same session.
    Duplicate(String),
    /// The sandbox is not ready yet.
    NotReady,
    /// The sandbox is ready but its agent does not answer.
    Unreachable,
    /// The agent refused the session, for this reason.
    Refused(&'static str),
    /// The session has ended, so its resource is deleted.
    Ended,
    /// The session is open. The sandbox may be asleep by now.
    Open,
}

impl Observation {
    const fn reason(&self) -> Reason {
        match self {
            Self::NoSandbox => Reason::SandboxNotFound,
            Self::Duplicate(_) => Reason::Duplicate,
            Self::NotReady => Reason::SandboxNotReady,
            Self::Unreachable => Reason::SandboxUnreachable,
            Self::Refused(_) => Reason::Refused,
            Self::Ended => Reason::Ended,
            Self::Open => Reason::Open,
        }
    }

    fn message(&self, session: &SandboxSession) -> String {
        let (sandbox, id) = (&session.spec.sandbox_name, &session.spec.id);
        match self {
            Self::NoSandbox => format!("there is no sandbox {sandbox}"),
            Self::Duplicate(other) => format!(
                "{other} stands for the session {id:?} of {sandbox} already: delete one of the two"
            ),
            Self::NotReady => format!("the sandbox {sandbox} is not ready yet"),
            Self::Unreachable => format!(
                "the agent of {sandbox} cannot be asked: may Hutch exec into pods of this namespace?"
            ),
            Self::Refused(why) => {
                format!("the sandbox {sandbox} does not take the session: {why}")
            }
            Self::Ended => "the session has ended".to_owned(),
            Self::Open => "commands can be run in the session; one that comes while the sandbox sleeps wakes it".to_owned(),
        }
    }
}

/// The fields of the status that the controller owns.
pub fn status(
    session: &SandboxSession,
    observation: &Observation,
    now: Timestamp,
) -> SandboxSessionStatus {
    let old = session.status.as_ref();
    let kept = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let generation = session.metadata.generation;
    let ready = condition(
        READY,
        Some(*observation == Observation::Open),
        observation.reason().as_str(),
        observation.message(session),
        generation,
        now,
    );
    SandboxSessionStatus {
        conditions: carry_over(kept, vec![ready]),
        observed_generation: generation,
        ..Default::default()
    }
}

/// True if `status` differs from the session's present status.
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
    fn a_session_reports_its_obstacle_and_reports_it_once() {
        let mut session = session();
        let first = status(&session, &Observation::NoSandbox, at(1));
        assert!(first.conditions[0].reason == Reason::SandboxNotFound);
        assert!(worth_writing(&session, &first));
        session.status = Some(first);
        let again = status(&session, &Observation::NoSandbox, at(9));
        assert!(!worth_writing(&session, &again));
        let open = status(&session, &Observation::Open, at(9));
        assert!(worth_writing(&session, &open));
        assert_eq!(open.conditions[0].status, "True");
    }

    #[test]
    fn a_change_by_the_facade_needs_no_write() {
        let mut session = session();
        let observation = Observation::Open;
        let open = status(&session, &observation, at(1));
        session.status = Some(SandboxSessionStatus {
            working_directory: Some("/workspace".into()),
            ..open
        });
        assert!(!worth_writing(
            &session,
            &status(&session, &observation, at(2))
        ));
    }
}
