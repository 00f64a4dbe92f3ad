//! What is told on a Sandbox about its project's row, and whether it is news.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use hutch_api::Sandbox;
use hutch_core::conditions::{DATABASE_SYNCED, carry_over, condition, find};
use hutch_core::interfaces::{DatabaseError, ProjectReport};

/// What became of a look at a project's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Synced,
    /// It names a pod that lives and that somebody else put there.
    Kept(String),
    /// There is no such row.
    Missing,
    /// The database did not let us.
    Failed(DatabaseError),
    /// It could not be decided, or not by this replica: nothing to tell.
    Later,
}

impl Outcome {
    /// Whether the row is as it should be, and the reason of the condition.
    const fn verdict(&self) -> Option<(bool, &'static str)> {
        match self {
            Self::Synced => Some((true, "Synced")),
            Self::Kept(_) => Some((true, "SetByOthers")),
            Self::Missing => Some((false, "ProjectNotFound")),
            Self::Failed(error) => Some((false, error.kind())),
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
            // Why it is away changes from one attempt to the next: the log has it.
            Self::Failed(DatabaseError::Away(_)) => {
                "the database is away; it is tried again".to_owned()
            }
            Self::Failed(error) => format!("{error}; it is tried again"),
            Self::Later => String::new(),
        }
    }

    /// The note of the event that the outcome deserves: of what a person may
    /// have to do something about. That the database is away is told once for
    /// all by log and metric.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Missing => Some(self.message()),
            Self::Failed(error) if !error.away() => Some(self.message()),
            _ => None,
        }
    }
}

/// What a sandbox tells of its project already.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    project: String,
    condition: Condition,
}

impl Told {
    /// What its status says.
    pub fn on(sandbox: &Sandbox) -> Option<Self> {
        let status = sandbox.status.as_ref()?;
        Some(Self {
            project: status.project_id.clone()?,
            condition: find(&status.conditions, DATABASE_SYNCED)?.clone(),
        })
    }

    /// Reason of the condition.
    pub fn reason(&self) -> &str {
        &self.condition.reason
    }
}

/// What to write on the sandbox, if it differs from what was told before in
/// anything but its time.
pub fn report(
    sandbox: &Sandbox,
    project: &str,
    outcome: &Outcome,
    before: Option<&Told>,
) -> Option<(ProjectReport, Told)> {
    let (holds, reason) = outcome.verdict()?;
    let generation = sandbox.metadata.generation;
    let now = Timestamp::now();
    let made = condition(
        DATABASE_SYNCED,
        Some(holds),
        reason,
        outcome.message(),
        generation,
        now,
    );
    let old = before.map(|before| before.condition.clone());
    let condition = carry_over(old.as_slice(), vec![made]).pop()?;
    let told = Told {
        project: project.to_owned(),
        condition: condition.clone(),
    };
    let news = ProjectReport {
        project: project.to_owned(),
        condition,
    };
    (before != Some(&told)).then_some((news, told))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_api::SandboxSpec;

    #[test]
    fn what_was_told_is_not_told_again() {
        let sandbox = Sandbox::new("a", SandboxSpec::default());
        let (_, told) = report(&sandbox, "P", &Outcome::Synced, None).unwrap();
        assert_eq!(report(&sandbox, "P", &Outcome::Synced, Some(&told)), None);
        assert!(report(&sandbox, "Q", &Outcome::Synced, Some(&told)).is_some());
        let (news, _) = report(&sandbox, "P", &Outcome::Missing, Some(&told)).unwrap();
        assert_eq!(news.condition.reason, "ProjectNotFound");
        assert_eq!(report(&sandbox, "P", &Outcome::Later, Some(&told)), None);
    }
}
