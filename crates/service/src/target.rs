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

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Templates {
        let mut templates = Templates::default();
        templates.tenant.image = Some("tenant".to_owned());
        templates.project.image = Some("project".to_owned());
        templates.project.workspace.mount_path = "/project".to_owned();
        templates
    }

    /// The sandbox that a target creates, as the API server has it.
    fn made_by(target: &Target) -> Sandbox {
        let new = target.new_sandbox(&templates()).unwrap();
        let mut sandbox = Sandbox::new(&new.name, new.spec);
        let notes = new.notes.into_iter();
        let notes = notes.map(|(key, value)| (key.to_owned(), value));
        sandbox.metadata.annotations = Some(notes.collect());
        sandbox
    }

    fn project() -> Project {
        Project {
            id: "7".to_owned(),
            ..Project::default()
        }
    }

    #[test]
    fn every_owner_recognizes_the_sandbox_that_it_creates_and_no_other() {
        let all = [
            Target::tenant("a"),
            Target::tenant_any_case("B"),
            Target::conversation("a"),
            Target::project(&project(), "/app"),
        ];
        for target in &all {
            let sandbox = made_by(target);
            for other in &all {
                assert_eq!(other.matches(&sandbox), other == target, "{other:?}");
            }
        }
    }

    #[test]
    fn every_spelling_matches_a_sandbox_that_was_made_for_all() {
        let sandbox = made_by(&Target::tenant_any_case("Box"));
        assert!(Target::tenant("BOX").matches(&sandbox));
        let sandbox = made_by(&Target::tenant("box"));
        assert!(!Target::tenant("BOX").matches(&sandbox));
    }

    #[test]
    fn a_sandbox_without_an_id_belongs_to_every_id_of_its_name() {
        let sandbox = Sandbox::new("x", SandboxSpec::default());
        assert!(Target::tenant("a").matches(&sandbox));
        assert!(!Target::conversation("a").matches(&sandbox));
    }

    #[test]
    fn the_workspace_of_a_project_is_mounted_at_its_directory() {
        let spec = made_by(&Target::project(&project(), "/app")).spec;
        assert_eq!(spec.workspace.mount_path, "/app");
        assert_eq!(spec.project.map(|it| it.id).as_deref(), Some("7"));
        assert_eq!(spec.image.as_deref(), Some("project"));
    }

    #[test]
    fn a_backend_has_its_own_image_or_that_of_the_tenant_api() {
        let image = |image: Option<&str>| {
            let target = Target::backend("My app", image.map(str::to_owned));
            made_by(&target).spec.image
        };
        assert_eq!(image(Some("golang")).as_deref(), Some("golang"));
        assert_eq!(image(None).as_deref(), Some("tenant"));
    }

    #[test]
    fn two_backends_of_one_title_have_different_names() {
        let name = || Target::backend("My app", None).name;
        assert_ne!(name(), name());
    }

    #[test]
    fn a_sandbox_known_by_its_name_and_an_attached_pod_are_never_created() {
        let named = Target::named("x", None);
        let pod = Target::attached_pod("x", &project());
        for target in [named, pod] {
            assert!(target.new_sandbox(&templates()).is_none());
        }
    }
}
