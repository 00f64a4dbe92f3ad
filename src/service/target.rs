//! The sandbox that a request means, whether or not it exists yet. Which one that
//! is depends on whose it is; everything after that does not.

use std::collections::BTreeMap;

use super::Service;
use crate::crd::{Sandbox, SandboxSpec, annotations};
use crate::domain::interfaces::NewSandbox;
use crate::domain::names;

/// A sandbox, by its resource's name and by what makes it the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the resource.
    pub name: String,
    pub(super) whose: Whose,
}

/// Whose a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A tenant's, who chose the id; with `any_case` in every spelling of it.
    Tenant { id: String, any_case: bool },
}

impl Target {
    /// The sandbox with a tenant's id.
    pub(super) fn tenant(id: &str, any_case: bool) -> Self {
        let id = if any_case {
            id.to_lowercase()
        } else {
            id.to_owned()
        };
        Self {
            name: names::sandbox(&id),
            whose: Whose::Tenant { id, any_case },
        }
    }

    /// Whether the sandbox of the target's name is the one that is meant; one
    /// made by `kubectl` has no id and belongs to whoever finds its name.
    pub(super) fn is(&self, sandbox: &Sandbox) -> bool {
        let Whose::Tenant { id, .. } = &self.whose;
        match annotation(sandbox, annotations::SANDBOX_ID) {
            None => true,
            Some(owner) if answers_any_case(sandbox) => owner == id.to_lowercase(),
            Some(owner) => owner == id,
        }
    }

    /// The sandbox as it is created.
    pub(super) fn new_sandbox(&self, template: &SandboxSpec) -> NewSandbox {
        let Whose::Tenant { id, any_case } = &self.whose;
        let mut notes = BTreeMap::from([(annotations::SANDBOX_ID, id.clone())]);
        if *any_case {
            notes.insert(annotations::ANY_CASE, "true".to_owned());
        }
        NewSandbox {
            name: self.name.clone(),
            notes,
            spec: template.clone(),
        }
    }
}

impl Service {
    /// The sandbox that a tenant means by an id: its own, or one that was created
    /// for every spelling of the id.
    pub fn tenant(&self, id: &str) -> Target {
        let own = Target::tenant(id, false);
        if self.sandboxes.get(&own.name).is_some() {
            return own;
        }
        let shared = Target::tenant(id, true);
        let made = self.sandboxes.get(&shared.name);
        if shared.name != own.name && made.is_some_and(|made| answers_any_case(&made)) {
            shared
        } else {
            own
        }
    }
}

fn answers_any_case(sandbox: &Sandbox) -> bool {
    annotation(sandbox, annotations::ANY_CASE) == Some("true")
}

fn annotation<'a>(sandbox: &'a Sandbox, key: &str) -> Option<&'a str> {
    let annotations = sandbox.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}
