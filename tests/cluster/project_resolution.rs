//! From a conversation to its sandbox, with a real PostgreSQL server: which sandbox it is,
//! and that all conversations of a project share it.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use tokio::time::Instant;

use crate::support::backend::Backend;
use crate::support::postgres::Postgres;
use crate::support::world::eventually;
use crate::support::{Hutch, World};
use hutch_api::{Sandbox, SandboxSpec};

/// The longest time that `container_name` may be outdated.
pub const ROW_LIMIT: Duration = Duration::from_secs(5);

/// `hutch run` with the database behind `port`, and a client.
pub async fn integrated(
    world: &World,
    postgres: &Postgres,
    port: u16,
    conversation: &str,
) -> (Hutch, Backend) {
    let flags = postgres.flags(port);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    world.with_backend(conversation, &flags).await
}

/// Waits until Hutch reports that the database is connected, or that it is not.
pub async fn until(backend: &Backend, state: &str) {
    eventually(&format!("the database is {state}"), async || {
        let health = backend.get("/health", &[]).await.ok();
        (health["database"]["state"] == state).then_some(())
    })
    .await;
}

/// Creates a conversation of a project, or one without a project.
pub async fn conversation(postgres: &Postgres, id: &str, project: Option<&str>) {
    let project = project.map_or("NULL".to_owned(), |project| format!("'{project}'"));
    let text = "INSERT INTO sessions (id, project_id, title) VALUES";
    postgres
        .sql(&format!("{text} ('{id}', {project}, 't')"))
        .await;
}

/// Returns the pod that the row of a project names, once the pod lives and is as `wanted`.
/// That has to happen within the limit.
pub async fn named(
    world: &World,
    postgres: &Postgres,
    project: &str,
    wanted: impl Fn(&Pod) -> bool,
) -> Pod {
    let begin = Instant::now();
    let what = format!("the row of {project} names a pod that lives");
    let pod = eventually(&what, async || {
        let name = postgres.container(project).await?;
        let pods = world.live_pods().await;
        pods.into_iter()
            .find(|pod| pod.name_any() == name && wanted(pod))
    })
    .await;
    assert!(
        begin.elapsed() < ROW_LIMIT,
        "{what} after {:?}",
        begin.elapsed()
    );
    pod
}

/// The sandboxes of that project.
pub async fn of_project(world: &World, project: &str) -> Vec<Sandbox> {
    let all = world.sandboxes().list(&ListParams::default()).await;
    let mut all = all.unwrap().items;
    all.retain(|it| it.spec.project.as_ref().is_some_and(|it| it.id == project));
    all
}

async fn mark(backend: &Backend, text: &str) {
    backend.stdout(&format!("echo {text} > /tmp/mark")).await;
}

async fn marked(backend: &Backend) -> String {
    let shown = backend
        .stdout("cat /tmp/mark 2>/dev/null || echo none")
        .await;
    shown.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_of_a_project_works_in_the_projects_sandbox_and_any_other_in_its_own() {
    let (world, postgres) = (World::new("three").await, Postgres::start().await);
    postgres.project("P").await;
    conversation(&postgres, "alone", None).await;
    let (_hutch, project) = integrated(&world, &postgres, postgres.port, "s-P").await;
    until(&project, "connected").await;
    mark(&project, "project").await;
    let pod = named(&world, &postgres, "P", |_| true).await;
    assert_eq!(
        project.stdout("hostname; pwd").await,
        format!("{}\n/sandbox\n", pod.name_any())
    );
    assert_eq!(of_project(&world, "P").await.len(), 1);

    for id in ["alone", "in-no-row", "P", "'; DROP TABLE sessions; --"] {
        let own = project.about(id);
        assert_eq!(marked(&own).await, "none", "{id}");
        mark(&own, "own").await;
        assert_eq!(own.stdout("pwd").await, "/sandbox\n", "{id}");
    }
    assert_eq!(marked(&project).await, "project");
    assert_eq!(
        (world.count().await, of_project(&world, "P").await.len()),
        (5, 1)
    );
    let writes = postgres.writes().await;
    assert_eq!(writes, [("P".to_owned(), Some(pod.name_any()))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_conversations_of_a_project_share_one_sandbox_however_they_start() {
    let (world, postgres) = (World::new("share").await, Postgres::start().await);
    for project in ["P", "Q"] {
        postgres.project(project).await;
    }
    let (_first, one) = integrated(&world, &postgres, postgres.port, "").await;
    // Another replica does not know what the first one is doing.
    let (_second, two) = integrated(&world, &postgres, postgres.port, "").await;
    until(&one, "connected").await;
    until(&two, "connected").await;
    let mut all = Vec::new();
    for i in 0..8 {
        for (project, replica) in [("P", &one), ("P", &two), ("Q", &one)] {
            let id = format!("{project}-{i}-{}", all.len());
            conversation(&postgres, &id, Some(project)).await;
            all.push((project, replica.about(&id)));
        }
    }
    let start = |(project, backend): &(&'static str, Backend)| {
        let (project, backend) = (*project, backend.clone());
        async move {
            let output = backend.stdout("echo here >> /sandbox/all; hostname").await;
            (project, output.trim_end().to_owned())
        }
    };
    let output = join_all(all.iter().map(start)).await;
    for (project, times) in [("P", 16), ("Q", 8)] {
        let mut hosts: Vec<_> = output.iter().filter(|output| output.0 == project).collect();
        hosts.dedup();
        assert_eq!(hosts.len(), 1, "{output:?}");
        let pod = named(&world, &postgres, project, |_| true).await;
        assert_eq!(pod.name_any(), hosts[0].1);
        let member = &all.iter().find(|it| it.0 == project).unwrap().1;
        let lines = member.stdout("wc -l < /sandbox/all").await;
        assert_eq!(lines, format!("{times}\n"));
    }
    assert_eq!((world.count().await, world.live_pods().await.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_container_is_replaced_and_the_row_follows() {
    let (world, postgres) = (World::new("deleted").await, Postgres::start().await);
    postgres.project("P").await;
    // A name that a machine of another kind has left.
    postgres
        .sql("UPDATE projects SET container_name = 'docker-1'")
        .await;
    let (_hutch, backend) = integrated(&world, &postgres, postgres.port, "s-P").await;
    until(&backend, "connected").await;
    mark(&backend, "first").await;
    let mut pod = named(&world, &postgres, "P", |_| true).await;

    for what in ["pod", "sandbox"] {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap());
        let sandbox = of_project(&world, "P").await[0].name_any();
        if what == "pod" {
            let now = DeleteParams::default().grace_period(0);
            world.pods().delete(&name, &now).await.unwrap();
            // Until the loss is known, its processes may still answer.
            world
                .sandbox(&sandbox, |it| {
                    let status = it.status.as_ref();
                    status.is_some_and(|status| status.pod_uid.as_ref() != Some(&uid))
                })
                .await;
        } else {
            world.delete(&sandbox).await;
            world.gone::<Pod>(&name).await;
        }
        // No request fails because of it.
        assert_eq!(marked(&backend).await, "none", "{what}");
        mark(&backend, what).await;
        pod = named(&world, &postgres, "P", |pod| pod.uid().unwrap() != uid).await;
        assert_eq!(marked(&backend).await, what);
        assert_eq!(of_project(&world, "P").await.len(), 1, "{what}");
    }
    // Without a request, the row is still right.
    let sandbox = of_project(&world, "P").await[0].name_any();
    world.delete(&sandbox).await;
    let begin = Instant::now();
    eventually("the row names nothing", async || {
        postgres.container("P").await.is_none().then_some(())
    })
    .await;
    assert!(begin.elapsed() < ROW_LIMIT, "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_working_directory_of_a_project_is_where_its_workspace_is() {
    let (world, postgres) = (World::new("workdir").await, Postgres::start().await);
    let wanted = [
        ("set", "/srv/my-app", "/srv/my-app"),
        ("nothing-set", "", "/sandbox"),
        ("root", "/", "/sandbox"),
        ("proc", "/proc", "/sandbox"),
        ("up", "/srv/../etc", "/sandbox"),
        ("relative", "srv/app", "/sandbox"),
        ("code", "/srv/$(id)", "/sandbox"),
    ];
    for (id, path, _) in wanted {
        postgres.project(id).await;
        let set = "UPDATE projects SET workdir_path";
        postgres
            .sql(&format!("{set} = '{path}' WHERE id = '{id}'"))
            .await;
    }
    let (hutch, backend) = integrated(&world, &postgres, postgres.port, "").await;
    until(&backend, "connected").await;
    for (id, _, there) in wanted {
        let backend = backend.about(&format!("s-{id}"));
        assert_eq!(backend.stdout("pwd").await, format!("{there}\n"), "{id}");
        let code = "import os; print(os.getcwd())";
        assert_eq!(backend.python(code).await, format!("{there}\n"), "{id}");
        backend.write("a/file", id).await.ok();
        assert_eq!(backend.stdout(&format!("cat {there}/a/file")).await, id);
        let body = backend.call("/file/list", json!({})).await.ok();
        assert_eq!(body["files"], json!(["a"]), "{id}");
        let found = backend
            .call("/file/grep", json!({"pattern": id}))
            .await
            .ok();
        assert_eq!(found["exit_code"], 0, "{id}: {found:#}");
        let sandbox = of_project(&world, id).await.remove(0);
        assert_eq!(sandbox.spec.workspace.mount_path, there, "{id}");
        let end = [("project_id", id)];
        let tree = backend.get("/file/tree", &end).await.ok()["tree"].clone();
        let file = &tree["children"][0]["children"][0];
        assert_eq!(
            (&file["path"], &file["content"]),
            (&json!("/a/file"), &json!(id))
        );
    }
    let log = hutch.log();
    for (id, path, there) in wanted {
        let warned = log
            .lines()
            .any(|line| line.contains("WARN") && line.contains(id) && line.contains(path));
        assert_eq!(warned, !path.is_empty() && path != there, "{id}:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_sandbox_that_a_person_named_is_honoured() {
    let (world, postgres) = (World::new("honoured").await, Postgres::start().await);
    for project in ["P", "Q"] {
        postgres.project(project).await;
    }
    let (_hutch, backend) = integrated(&world, &postgres, postgres.port, "s-P").await;
    until(&backend, "connected").await;
    let theirs = json!({"workspace": {"persistence": "Ephemeral", "size": "64Mi"}});
    let theirs: SandboxSpec = serde_json::from_value(theirs).unwrap();
    world.create("theirs", theirs).await;
    world.ready("theirs").await;
    postgres
        .sql("UPDATE projects SET container_name = 'theirs', workdir_path = '/var/tmp'")
        .await;
    let output = backend.stdout("hostname; pwd; touch mark").await;
    assert_eq!(output, "theirs\n/var/tmp\n");
    let body = backend.call("/file/list", json!({})).await.ok();
    assert_eq!(body["files"], json!(["mark"]));
    // A relative directory starts at the project's directory, which is not the sandbox's.
    let fields = json!({"command": "pwd", "working_dir": "sub"});
    backend.stdout("mkdir sub").await;
    let output = backend.call("/execute", fields).await.ok();
    assert_eq!(output["stdout"], "/var/tmp/sub\n", "{output:#}");
    backend.stdout("rmdir sub").await;
    // Two projects may have the same container.
    let output = backend.about("s-Q").stdout("hostname; pwd; ls").await;
    assert_eq!(output, "theirs\n/var/tmp\nmark\n");
    assert_eq!((world.count().await, postgres.writes().await.len()), (1, 0));

    // A container that a backend has created for itself is such a one, too.
    let body = json!({"project_name": "Q"});
    let made = backend.post("/projects/create", body).await.ok();
    let name = made["container_name"].as_str().unwrap();
    let set = "UPDATE projects SET workdir_path = NULL, container_name";
    postgres
        .sql(&format!("{set} = '{name}' WHERE id = 'Q'"))
        .await;
    eventually("the project's conversation moves there", async || {
        let output = backend.about("s-Q").stdout("hostname; pwd").await;
        (output == format!("{name}\n/workspace\n")).then_some(())
    })
    .await;
    assert_eq!(postgres.container("P").await.as_deref(), Some("theirs"));
    assert_eq!(postgres.container("Q").await.as_deref(), Some(name));
    assert_eq!(postgres.writes().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_sandbox_outlives_the_end_of_its_conversations() {
    let (world, postgres) = (World::new("kept").await, Postgres::start().await);
    postgres.project("P").await;
    let (_hutch, backend) = integrated(&world, &postgres, postgres.port, "s-P").await;
    until(&backend, "connected").await;
    mark(&backend, "kept").await;
    mark(&backend.about("own"), "own").await;
    let body = backend.post("/sessions/cleanup", json!({})).await.ok();
    assert_eq!(body["message"], "Cleaned up 1 sessions");
    assert_eq!(marked(&backend).await, "kept");
    assert_eq!(marked(&backend.about("own")).await, "none");
    // The contract leaves open if the answer says that it existed.
    let message = backend.end().await;
    assert!(message.starts_with("Session s-P "), "{message}");
    assert_eq!(marked(&backend).await, "kept");
    // Its row is deleted. Its sandbox is left to the deletion policy.
    postgres.sql("DELETE FROM projects").await;
    eventually("the conversation is in no row any more", async || {
        (marked(&backend).await == "none").then_some(())
    })
    .await;
    assert_eq!(of_project(&world, "P").await.len(), 1);
}
