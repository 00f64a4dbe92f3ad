//! The sandbox that a request means, whether or not it exists yet. Which one that
//! is depends on whose it is; everything after that does not.

use std::collections::BTreeMap;

use super::{Service, ServiceSettings};
use hutch_api::{self, Sandbox, annotations};
use hutch_core::interfaces::{NewSandbox, Project};
use hutch_core::names;

/// A sandbox, by its resource's name and by what makes it the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the resource.
    pub name: String,
    pub(super) whose: Whose,
    /// The project that led to it, which leads elsewhere once it is gone.
    pub(super) project: Option<Project>,
}

/// Whose a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A tenant's, who chose the id; with `any_case` in every spelling of it.
    Tenant { id: String, any_case: bool },
    /// A conversation's own.
    Conversation(String),
    /// A project's, with its workspace at that path.
    Project { id: String, workdir: String },
    /// A backend's, under a name for people.
    Backend {
        title: String,
        image: Option<String>,
    },
    /// Named by the database: whoever's it is, and nobody's to create.
    Named,
    /// No sandbox, but a pod of somebody else's.
    Guest,
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
            project: None,
        }
    }

    /// The sandbox that a conversation has for itself.
    pub(super) fn conversation(id: &str) -> Self {
        Self {
            name: names::conversation(id),
            whose: Whose::Conversation(id.to_owned()),
            project: None,
        }
    }

    /// The sandbox that is made for a project.
    pub(super) fn project(project: &Project, workdir: &str) -> Self {
        let (id, workdir) = (project.id.clone(), workdir.to_owned());
        Self {
            name: names::project(&id),
            whose: Whose::Project { id, workdir },
            project: Some(project.clone()),
        }
    }

    /// A new sandbox for a backend.
    pub(super) fn backend(title: &str, image: Option<String>) -> Self {
        let unique = uuid::Uuid::new_v4().to_string();
        Self {
            name: names::titled(title, &unique),
            whose: Whose::Backend {
                title: title.to_owned(),
                image,
            },
            project: None,
        }
    }

    /// A sandbox that exists, and perhaps the project that it was found for.
    pub(super) fn named(name: &str, project: Option<&Project>) -> Self {
        Self {
            name: name.to_owned(),
            whose: Whose::Named,
            project: project.cloned(),
        }
    }

    /// A pod of somebody else's, which that project names.
    pub(super) fn guest(pod: &str, project: &Project) -> Self {
        Self {
            name: pod.to_owned(),
            whose: Whose::Guest,
            project: Some(project.clone()),
        }
    }

    /// Where the workspace is to be, if the target says so.
    pub(super) fn workdir(&self) -> Option<&String> {
        match &self.whose {
            Whose::Project { workdir, .. } => Some(workdir),
            _ => None,
        }
    }

    /// Whether the sandbox of the target's name is the one that is meant; one
    /// made by `kubectl` has no id and belongs to the tenant who finds its name.
    pub(super) fn is(&self, sandbox: &Sandbox) -> bool {
        let note = |key| annotation(sandbox, key);
        match &self.whose {
            Whose::Tenant { id, .. } => match note(annotations::SANDBOX_ID) {
                None => note(annotations::CONVERSATION).is_none(),
                Some(owner) if answers_any_case(sandbox) => owner == id.to_lowercase(),
                Some(owner) => owner == id,
            },
            Whose::Conversation(id) => note(annotations::CONVERSATION) == Some(id),
            Whose::Project { id, .. } => project_of(sandbox) == Some(id),
            // Its name has been made up for it.
            Whose::Backend { .. } | Whose::Named => true,
            Whose::Guest => false,
        }
    }

    /// The sandbox as it is created; none where it is not to be created.
    pub(super) fn new_sandbox(&self, settings: &ServiceSettings) -> Option<NewSandbox> {
        let mut notes = BTreeMap::new();
        let mut spec = settings.template.clone();
        match &self.whose {
            Whose::Tenant { id, any_case } => {
                notes.insert(annotations::SANDBOX_ID, id.clone());
                if *any_case {
                    notes.insert(annotations::ANY_CASE, "true".to_owned());
                }
            }
            Whose::Conversation(id) => {
                notes.insert(annotations::CONVERSATION, id.clone());
                spec = settings.project_template.clone();
            }
            Whose::Project { id, workdir } => {
                spec = settings.project_template.clone();
                spec.workspace.mount_path.clone_from(workdir);
                spec.project = Some(hutch_api::Project { id: id.clone() });
            }
            Whose::Backend { title, image } => {
                notes.insert(annotations::TITLE, title.clone());
                spec.resources = settings.project_template.resources.clone();
                spec.image = image.clone().or(spec.image);
            }
            Whose::Named | Whose::Guest => return None,
        }
        Some(NewSandbox {
            name: self.name.clone(),
            notes,
            spec,
        })
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

/// The project that the sandbox works for.
pub(super) fn project_of(sandbox: &Sandbox) -> Option<&str> {
    sandbox
        .spec
        .project
        .as_ref()
        .map(|project| project.id.as_str())
}

pub(super) fn annotation<'a>(sandbox: &'a Sandbox, key: &str) -> Option<&'a str> {
    let annotations = sandbox.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}
