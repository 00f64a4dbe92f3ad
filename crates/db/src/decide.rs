//! What a project's `container_name` should be: a function of what it is, of the
//! project's sandboxes and of the names that are known to be ours.

use std::collections::BTreeSet;

use hutch_api::Sandbox;
use hutch_core::names;

/// What is to be done about a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be, or none of our business.
    Keep,
    /// Write this.
    Write(Option<String>),
    /// It names something that we did not write: where that lives it stays, else
    /// write this.
    UnlessAlive(String, Option<String>),
}

/// What is to be done where a row says `present`. `running` are the pods of the
/// project's sandboxes that run, the one to name first; `ours` the names that
/// only we can have written. Without a sandbox only those are taken away.
pub fn decide(
    present: Option<&str>,
    running: &[String],
    ours: &BTreeSet<String>,
    sandboxes: bool,
) -> Step {
    let present = present.filter(|name| !name.is_empty());
    let wanted = running.first();
    match present {
        Some(name) if running.iter().any(|one| one == name) => Step::Keep,
        Some(name) if !ours.contains(name) => match sandboxes {
            true => Step::UnlessAlive(name.to_owned(), wanted.cloned()),
            false => Step::Keep,
        },
        None if wanted.is_none() => Step::Keep,
        _ => Step::Write(wanted.cloned()),
    }
}

/// The pod of a sandbox, if commands can be run in it.
pub fn running(sandbox: &Sandbox) -> Option<String> {
    let status = sandbox.status.as_ref()?;
    let runs = status.phase.answers() && sandbox.metadata.deletion_timestamp.is_none();
    status.pod_name.clone().filter(|_| runs)
}

/// The name of the sandbox's pod, running or not.
pub fn pod(sandbox: &Sandbox) -> Option<String> {
    sandbox.metadata.name.as_deref().map(names::pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(present: Option<&str>, running: &[&str], ours: &[&str], sandboxes: bool) -> Step {
        let running: Vec<_> = running.iter().map(ToString::to_string).collect();
        let ours = ours.iter().map(ToString::to_string).collect();
        decide(present, &running, &ours, sandboxes)
    }

    fn write(name: Option<&str>) -> Step {
        Step::Write(name.map(str::to_owned))
    }

    #[test]
    fn a_pod_that_runs_is_named_and_one_that_does_not_is_not() {
        assert_eq!(step(None, &["a"], &["a"], true), write(Some("a")));
        assert_eq!(step(Some(""), &["a"], &["a"], true), write(Some("a")));
        assert_eq!(step(Some("a"), &["a"], &["a"], true), Step::Keep);
        assert_eq!(step(Some("a"), &[], &["a"], true), write(None));
        for empty in [None, Some("")] {
            assert_eq!(step(empty, &[], &["a"], true), Step::Keep);
        }
    }

    #[test]
    fn of_several_that_run_the_one_that_is_named_stays() {
        assert_eq!(step(Some("b"), &["a", "b"], &["a", "b"], true), Step::Keep);
        assert_eq!(
            step(Some("c"), &["a", "b"], &["a", "b", "c"], true),
            write(Some("a"))
        );
    }

    #[test]
    fn a_name_of_somebody_else_is_looked_at_before_it_is_replaced() {
        let unless = |name: Option<&str>| Step::UnlessAlive("x".into(), name.map(str::to_owned));
        assert_eq!(step(Some("x"), &["a"], &["a"], true), unless(Some("a")));
        assert_eq!(step(Some("x"), &[], &["a"], true), unless(None));
    }

    #[test]
    fn without_a_sandbox_only_our_own_names_are_taken_away() {
        assert_eq!(step(Some("a"), &[], &["a"], false), write(None));
        assert_eq!(step(Some("x"), &[], &["a"], false), Step::Keep);
        assert_eq!(step(None, &[], &["a"], false), Step::Keep);
    }
}
