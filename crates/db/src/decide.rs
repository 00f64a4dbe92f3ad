//! Decides which `container_name` a project's row should have. Pure: the inputs
//! are the present name, the project's running pods and the pod names that only
//! Hutch can have written.

use std::collections::BTreeSet;

use hutch_api::Sandbox;
use hutch_core::names;
use hutch_core::objects::is_ending;

/// The decision about one row.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Leave the row alone: it is correct, or Hutch did not write it.
    Keep,
    /// Write this name.
    Write(Option<String>),
    /// The row has the first name, which Hutch did not write. Keep it if that pod
    /// is alive, else write the second.
    UnlessAlive(String, Option<String>),
}

/// Decides about a row that has the name `present`. `running` are the running
/// pods of the project's sandboxes, the preferred one first. `ours` are the names
/// that only Hutch can have written. If the project has no sandbox, only those
/// names are removed.
pub fn decide(
    present: Option<&str>,
    running: &[String],
    ours: &BTreeSet<String>,
    has_sandbox: bool,
) -> Step {
    let present = present.filter(|name| !name.is_empty());
    let wanted = running.first();
    match present {
        Some(name) if running.iter().any(|one| one == name) => Step::Keep,
        Some(name) if !ours.contains(name) => {
            if has_sandbox {
                Step::UnlessAlive(name.to_owned(), wanted.cloned())
            } else {
                Step::Keep
            }
        }
        None if wanted.is_none() => Step::Keep,
        _ => Step::Write(wanted.cloned()),
    }
}

/// The sandbox's pod, if it can run commands.
pub fn running_pod(sandbox: &Sandbox) -> Option<String> {
    let status = sandbox.status.as_ref()?;
    let runs = status.phase.answers() && !is_ending(&sandbox.metadata);
    status.pod_name.clone().filter(|_| runs)
}

/// The name of the sandbox's pod, running or not.
pub fn pod_name(sandbox: &Sandbox) -> Option<String> {
    sandbox.metadata.name.as_deref().map(names::pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(present: Option<&str>, running: &[&str], ours: &[&str], has_sandbox: bool) -> Step {
        let running: Vec<_> = running.iter().map(ToString::to_string).collect();
        let ours = ours.iter().map(ToString::to_string).collect();
        decide(present, &running, &ours, has_sandbox)
    }

    fn write(name: Option<&str>) -> Step {
        Step::Write(name.map(str::to_owned))
    }

    #[test]
    fn a_row_names_a_running_pod_and_no_other() {
        assert_eq!(step(None, &["a"], &["a"], true), write(Some("a")));
        assert_eq!(step(Some(""), &["a"], &["a"], true), write(Some("a")));
        assert_eq!(step(Some("a"), &["a"], &["a"], true), Step::Keep);
        assert_eq!(step(Some("a"), &[], &["a"], true), write(None));
        for empty in [None, Some("")] {
            assert_eq!(step(empty, &[], &["a"], true), Step::Keep);
        }
    }

    #[test]
    fn a_named_pod_stays_while_it_runs_beside_others() {
        assert_eq!(step(Some("b"), &["a", "b"], &["a", "b"], true), Step::Keep);
        assert_eq!(
            step(Some("c"), &["a", "b"], &["a", "b", "c"], true),
            write(Some("a"))
        );
    }

    #[test]
    fn a_foreign_name_is_replaced_only_if_its_pod_is_dead() {
        let unless = |name: Option<&str>| Step::UnlessAlive("x".into(), name.map(str::to_owned));
        assert_eq!(step(Some("x"), &["a"], &["a"], true), unless(Some("a")));
        assert_eq!(step(Some("x"), &[], &["a"], true), unless(None));
    }

    #[test]
    fn without_a_sandbox_only_own_names_are_removed() {
        assert_eq!(step(Some("a"), &[], &["a"], false), write(None));
        assert_eq!(step(Some("x"), &[], &["a"], false), Step::Keep);
        assert_eq!(step(None, &[], &["a"], false), Step::Keep);
    }
}
