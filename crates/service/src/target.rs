//! The sandbox that a request means. It need not exist yet. Its owner decides which
//! one that is and how it is created; every later step is the same for all owners.

use std::collections::BTreeMap;

use hutch_api::{self, Sandbox, SandboxSpec, annotations};
use hutch_core::interfaces::{NewSandbox, Project};
use hutch_core::names;

/// The sandbox that a request means: the name of its resource, and the owner that the
/// resource must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the resource.
    pub name: String,
    pub(super) owner: Owner,
    /// The project that it was found for. If the target is gone, the project's next
    /// place is looked up.
    pub(super) project: Option<Project>,
}

/// The specs of sandboxes that requests create.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// The spec of sandboxes that requests of the tenant API create.
    pub tenant: SandboxSpec,
    /// The spec of sandboxes that are created for conversations and projects.
    pub project: SandboxSpec,
}

/// The owner of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A client of the tenant API, which chose the ID. With `any_case`, the ID is in
    /// lower case and every spelling of it means this sandbox.
    Tenant { id: String, any_case: bool },
    /// One conversation, by its ID. It has no project.
    Conversation(String),
    /// A project. Its workspace is mounted at `workdir`.
    Project { id: String, workdir: String },
    /// A client of the project API that has no row for its project yet. The title is
    /// for people.
    Backend {
        title: String,
        image: Option<String>,
    },
    /// Any owner: the sandbox is known by its name alone. It is never created.
    Named,
    /// Not a sandbox, but a pod that somebody else created.
    AttachedPod,
}

impl Target {
    /// The sandbox of an ID of the tenant API.
    pub(super) fn tenant(id: &str) -> Self {
        Self {
            name: names::sandbox(id),
            owner: Owner::Tenant {
                id: id.to_owned(),
                any_case: false,
            },
            project: None,
        }
    }

    /// The sandbox of every spelling of an ID of the tenant API.
    pub(super) fn tenant_any_case(id: &str) -> Self {
        let id = id.to_lowercase();
        Self {
            name: names::sandbox(&id),
            owner: Owner::Tenant { id, any_case: true },
            project: None,
        }
    }

    /// The sandbox of a conversation that has no project.
    pub(super) fn conversation(id: &str) -> Self {
        Self {
            name: names::conversation(id),
            owner: Owner::Conversation(id.to_owned()),
            project: None,
        }
    }

    /// The sandbox that Hutch creates for a project.
    pub(super) fn project(project: &Project, workdir: &str) -> Self {
        let (id, workdir) = (project.id.clone(), workdir.to_owned());
        Self {
            name: names::project(&id),
            owner: Owner::Project { id, workdir },
            project: Some(project.clone()),
        }
    }

    /// A new sandbox under a title. Its name is unique, so it never exists yet.
    pub(super) fn backend(title: &str, image: Option<String>) -> Self {
        let unique = uuid::Uuid::new_v4().to_string();
        Self {
            name: names::titled(title, &unique),
            owner: Owner::Backend {
                title: title.to_owned(),
                image,
            },
            project: None,
        }
    }

    /// A sandbox that exists, and the project that it was found for, if any.
    pub(super) fn named(name: &str, project: Option<&Project>) -> Self {
        Self {
            name: name.to_owned(),
            owner: Owner::Named,
            project: project.cloned(),
        }
    }

    /// The pod of somebody else that a project's row names.
    pub(super) fn attached_pod(pod: &str, project: &Project) -> Self {
        Self {
            name: pod.to_owned(),
            owner: Owner::AttachedPod,
            project: Some(project.clone()),
        }
    }

    /// The path at which the workspace is to be mounted, if the owner sets it.
    pub(super) fn workdir(&self) -> Option<&String> {
        match &self.owner {
            Owner::Project { workdir, .. } => Some(workdir),
            _ => None,
        }
    }

    /// True if a sandbox of the target's name belongs to the target's owner. A sandbox
    /// made with `kubectl` has no ID: every ID that has its name may use it.
    pub(super) fn matches(&self, sandbox: &Sandbox) -> bool {
        let note = |key| annotation(sandbox, key);
        match &self.owner {
            Owner::Tenant { id, .. } => match note(annotations::SANDBOX_ID) {
                None => note(annotations::CONVERSATION).is_none(),
                Some(owner) if answers_any_case(sandbox) => owner == id.to_lowercase(),
                Some(owner) => owner == id,
            },
            Owner::Conversation(id) => note(annotations::CONVERSATION) == Some(id),
            Owner::Project { id, .. } => project_of(sandbox) == Some(id),
            // The name of the one is unique; of the other, only the name is known.
            Owner::Backend { .. } | Owner::Named => true,
            Owner::AttachedPod => false,
        }
    }

    /// The sandbox to create; `None` if a request may not create this one.
    pub(super) fn new_sandbox(&self, templates: &Templates) -> Option<NewSandbox> {
        let mut notes = BTreeMap::new();
        let mut spec = templates.tenant.clone();
        match &self.owner {
            Owner::Tenant { id, any_case } => {
                notes.insert(annotations::SANDBOX_ID, id.clone());
                if *any_case {
                    notes.insert(annotations::ANY_CASE, "true".to_owned());
                }
            }
            Owner::Conversation(id) => {
                notes.insert(annotations::CONVERSATION, id.clone());
                spec = templates.project.clone();
            }
            Owner::Project { id, workdir } => {
                spec = templates.project.clone();
                spec.workspace.mount_path.clone_from(workdir);
                spec.project = Some(hutch_api::Project { id: id.clone() });
            }
            Owner::Backend { title, image } => {
                notes.insert(annotations::TITLE, title.clone());
                spec.resources = templates.project.resources.clone();
                spec.image = image.clone().or(spec.image);
            }
            Owner::Named | Owner::AttachedPod => return None,
        }
        Some(NewSandbox {
            name: self.name.clone(),
            notes,
            spec,
        })
    }
}

/// True if the sandbox was created for every spelling of its ID.
pub(super) fn answers_any_case(sandbox: &Sandbox) -> bool {
    annotation(sandbox, annotations::ANY_CASE) == Some("true")
}

/// The ID of the project that the sandbox works for.
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
