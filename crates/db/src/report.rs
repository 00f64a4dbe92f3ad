//! The condition that a Sandbox gets about its project's row. Pure but for the clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use hutch_api::Sandbox;
use hutch_core::conditions::{DATABASE_SYNCED, carry_over, condition, find};
use hutch_core::interfaces::{DatabaseError, ProjectReport};
use hutch_core::reasons::Reason;

/// The result of a sync of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The row is correct.
    Synced,
    /// The row names this live pod, which somebody else wrote there.
    Kept(String),
    /// There is no such row.
    Missing,
    /// The database refused or did not answer.
    Failed(DatabaseError),
    /// No decision was possible, or this replica does not lead. Nothing is reported.
    Later,
}

impl Outcome {
    /// Status and reason of the condition.
    const fn verdict(&self) -> Option<(bool, Reason)> {
        match self {
            Self::Synced => Some((true, Reason::Synced)),
            Self::Kept(_) => Some((true, Reason::SetByOthers)),
            Self::Missing => Some((false, Reason::ProjectNotFound)),
            Self::Failed(error) => Some((false, error.reason())),
            Self::Later => None,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Synced => "projects.container_name names the pod while it runs".to_owned(),
            Self::Kept(pod) => format!(
                "projects.container_name names pod {pod}, which lives and was put there by somebody else: it is left so"
            ),
            Self::Missing => {
                "there is no row with this id in projects; it is looked for again".to_owned()
            }
            // The cause may change with every attempt, so it is in the log only.
            Self::Failed(DatabaseError::Away(_)) => {
                "the database is away; it is tried again".to_owned()
            }
            Self::Failed(error) => format!("{error}; it is tried again"),
            Self::Later => String::new(),
        }
    }

    /// The reason and the text of the event for outcomes that may need a person's action.
    /// There is none if the database is away: the log and a metric report that once for
    /// all sandboxes.
    pub fn event(&self) -> Option<(Reason, String)> {
        match self {
            Self::Missing => Some((Reason::ProjectNotFound, self.message())),
            Self::Failed(error) if !error.away() => Some((error.reason(), self.message())),
            _ => None,
        }
    }
}

/// The report that a sandbox has already.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    project: String,
    condition: Condition,
}

impl Reported {
    /// Reads it from the sandbox's status.
    pub fn on(sandbox: &Sandbox) -> Option<Self> {
        let status = sandbox.status.as_ref()?;
        Some(Self {
            project: status.project_id.clone()?,
            condition: find(&status.conditions, DATABASE_SYNCED)?.clone(),
        })
    }

    /// The reason of the condition.
    pub fn reason(&self) -> &str {
        &self.condition.reason
    }
}

/// The report to write on the sandbox; `None` if it differs from `before` only in
/// its time.
pub fn report(
    sandbox: &Sandbox,
    project: &str,
    outcome: &Outcome,
    before: Option<&Reported>,
) -> Option<(ProjectReport, Reported)> {
    let (holds, reason) = outcome.verdict()?;
    let generation = sandbox.metadata.generation;
    let now = Timestamp::now();
    let new = condition(
        DATABASE_SYNCED,
        Some(holds),
        reason.as_str(),
        outcome.message(),
        generation,
        now,
    );
    let old = before.map(|before| before.condition.clone());
    let condition = carry_over(old.as_slice(), vec![new]).pop()?;
    let reported = Reported {
        project: project.to_owned(),
        condition: condition.clone(),
    };
    let news = ProjectReport {
        project: project.to_owned(),
        condition,
    };
    (before != Some(&reported)).then_some((news, reported))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_api::SandboxSpec;

    #[test]
    fn a_report_is_not_repeated() {
        let sandbox = Sandbox::new("a", SandboxSpec::default());
        let (_, reported) = report(&sandbox, "P", &Outcome::Synced, None).unwrap();
        assert_eq!(
            report(&sandbox, "P", &Outcome::Synced, Some(&reported)),
            None
        );
        assert!(report(&sandbox, "Q", &Outcome::Synced, Some(&reported)).is_some());
        let (news, _) = report(&sandbox, "P", &Outcome::Missing, Some(&reported)).unwrap();
        assert_eq!(news.condition.reason, "ProjectNotFound");
        assert_eq!(
            report(&sandbox, "P", &Outcome::Later, Some(&reported)),
            None
        );
    }
}
