//! Conversations in pods that are not Hutch's own: `container_name` names a pod
//! that carries `hutch.dev/attach: "true"`.

use std::path::Path;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::project_resolution::{conversation, named, of_project, until};
use crate::support::backend::Backend;
use crate::support::environment::agent_binary;
use crate::support::postgres::Postgres;
use crate::support::world::eventually;
use crate::support::{Hutch, World};
use hutch_api::labels;

pub const PYTHON: &str = "python:3.11-slim";
pub const BUSYBOX: &str = "busybox:1";
/// Ends its container when a command asks for it.
const UNTIL_TOLD: &str = "while [ ! -e /tmp/end ]; do sleep 0.1; done";

/// A pod of another owner that carries the label, with one such container.
pub fn theirs(name: &str, image: &str, container: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {labels::ATTACH: "true", "app": "theirs"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "main", "image": image, "command": ["sleep", "100000"], "workingDir": "/srv/app",
        }]},
    });
    let target = pod["spec"]["containers"][0].as_object_mut().unwrap();
    target.extend(container.as_object().unwrap().clone());
    pod
}

pub async fn create(world: &World, pod: Value) -> Pod {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let made = world.pods().create(&PostParams::default(), &pod).await;
    made.unwrap()
}

pub async fn runs(world: &World, name: &str) -> Pod {
    let running = |pod: &Pod| {
        let status = pod.status.as_ref();
        status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
    };
    world.object(name, running).await
}

/// Waits until this Hutch knows the pod.
pub async fn known(backend: &Backend, pod: &str) {
    eventually("the pod is known", async || {
        let body = backend
            .post("/projects/delete", json!({"container_id": pod}))
            .await
            .ok();
        body["message"].as_str()?.contains("stays").then_some(())
    })
    .await;
}

/// Writes the pod's name into the project's row, as a user does.
pub async fn name(postgres: &Postgres, project: &str, pod: &str) {
    let set = "UPDATE projects SET container_name";
    let text = format!("{set} = '{pod}' WHERE id = '{project}'");
    postgres.sql(&text).await;
}

/// `hutch run` with the database and that binary of the agent.
pub async fn hutch(
    world: &World,
    postgres: &Postgres,
    binary: &Path,
    id: &str,
) -> (Hutch, Backend) {
    let mut flags = postgres.flags(postgres.port);
    flags.push(format!("--agent-binary={}", binary.display()));
    flags.push("--ready-timeout=20s".to_owned());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let (hutch, backend) = world.with_backend(id, &flags).await;
    until(&backend, "connected").await;
    (hutch, backend)
}

/// The agents in the container.
const AGENTS: &str = "for p in /proc/[0-9]*; do \
    tr '\\0' ' ' 2>/dev/null <$p/cmdline | grep -q '^hutch-agent run [-]-attached' && \
    [ \"$(tr '\\0' ' ' <$p/cmdline)\" != \"$(tr '\\0' ' ' </proc/$(cut -d' ' -f4 $p/stat)/cmdline)\" ] && \
    echo $p; done | wc -l";

async fn one_agent(backend: &Backend) {
    eventually("one agent runs", async || {
        (backend.stdout(AGENTS).await.trim() == "1").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_labelled_pod_serves_commands_and_is_not_changed() {
    let (world, postgres) = (World::new("attach").await, Postgres::start().await);
    let (hutch, backend) = hutch(&world, &postgres, &agent_binary(), "").await;
    for (project, image) in [("python", PYTHON), ("busybox", BUSYBOX)] {
        postgres.project(project).await;
        conversation(&postgres, &format!("other-{project}"), Some(project)).await;
        name(&postgres, project, project).await;
        create(&world, theirs(project, image, json!({}))).await;
    }
    for project in ["python", "busybox"] {
        let before = runs(&world, project).await;
        known(&backend, project).await;
        let backend = backend.about(&format!("s-{project}"));
        work(&backend, project).await;
        let other = backend.about(&format!("other-{project}"));
        assert_eq!(
            other.stdout("hostname; cat a/b.txt").await,
            format!("{project}\nnew text\n")
        );
        one_agent(&backend).await;
        // The project's directory takes precedence over the container's.
        let set = "UPDATE projects SET workdir_path = '/root' WHERE id";
        postgres.sql(&format!("{set} = '{project}'")).await;
        eventually("the project's directory is used", async || {
            let output = backend.stdout("pwd").await;
            (output == "/root\n").then_some(())
        })
        .await;

        let body = json!({"container_id": project});
        let message = backend.post("/projects/delete", body).await.ok()["message"].clone();
        assert!(message.as_str().unwrap().contains("stays"), "{message}");
        let after = world.pods().get(project).await.unwrap();
        let shape = |pod: &Pod| {
            let labels = pod.labels().clone();
            (
                pod.uid(),
                labels,
                pod.annotations().clone(),
                pod.spec.clone(),
            )
        };
        assert_eq!(shape(&after), shape(&before));
        assert_eq!(postgres.container(project).await.as_deref(), Some(project));
    }
    assert_eq!((world.count().await, postgres.writes().await.len()), (0, 0));
    assert_eq!(backend.sessions().await, Vec::<String>::new());
    let log = hutch.log();
    assert_eq!(log.matches("brought the agent").count(), 2, "{log}");
    assert!(log.contains("attached to an existing container"), "{log}");
}

/// Commands, files and searches in the container's own directory.
async fn work(backend: &Backend, pod: &str) {
    let output = backend.stdout("hostname; pwd; (sleep 1000 &); x=1").await;
    assert_eq!(output, format!("{pod}\n/srv/app\n"));
    backend.write("a/b.txt", "old text\n").await.ok();
    assert_eq!(backend.text("/srv/app/a/b.txt").await, "old text\n");
    let edit = json!({"file_path": "a/b.txt", "old_string": "old", "new_string": "new"});
    backend.call("/file/edit", edit).await.ok();
    assert_eq!(backend.stdout("cat a/b.txt").await, "new text\n");
    let listed = backend.call("/file/list", json!({})).await.ok();
    assert_eq!(listed["files"], json!(["a"]));
    let found = backend
        .call("/file/grep", json!({"pattern": "new te.t"}))
        .await;
    assert_eq!(found.ok()["stdout"], "./a/b.txt:new text\n");
    let found = backend
        .call("/file/glob", json!({"pattern": "*.txt"}))
        .await;
    assert_eq!(found.ok()["stdout"], "./a/b.txt\n");
    let tree = backend.get("/file/tree", &[("project_id", pod)]).await.ok();
    let file = &tree["tree"]["children"][0]["children"][0];
    assert_eq!(
        (&file["path"], &file["content"]),
        (&json!("/a/b.txt"), &json!("new text\n"))
    );
    let code = json!({"command": "import os; print(os.getcwd())", "language": "python"});
    match pod {
        "python" => {
            let output = backend.call("/execute", code).await.ok();
            assert_eq!(output["stdout"], "/srv/app\n");
            backend.write("bad.py", "x = (\n").await.ok();
            let found = backend.call("/diagnostic", json!({})).await.ok();
            assert_eq!(found["diagnostics"][0]["file_path"], "bad.py", "{found:#}");
        }
        _ => assert!(
            backend
                .call("/execute", code)
                .await
                .fails(400)
                .contains("not supported")
        ),
    }
    let slow = json!({"command": "echo begun; sleep 1000", "timeout": 1});
    let cut = backend.call("/execute", slow).await.ok();
    assert_eq!(
        (&cut["exit_code"], &cut["stdout"]),
        (&json!(124), &json!("begun\n"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_to_one_of_several_containers_start_one_agent() {
    let (world, postgres) = (World::new("at-once").await, Postgres::start().await);
    postgres.project("P").await;
    name(&postgres, "P", "pair").await;
    let user = json!({"runAsUser": 1000, "runAsGroup": 1000, "allowPrivilegeEscalation": false,
                      "capabilities": {"drop": ["ALL"]}});
    let main = json!({"env": [{"name": "WHO", "value": "main"}], "securityContext": user});
    let mut pod = theirs("pair", PYTHON, main);
    let side = json!({"name": "side", "image": BUSYBOX, "command": ["sleep", "100000"],
                      "env": [{"name": "WHO", "value": "side"}]});
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.insert(0, side);
    pod["spec"]["initContainers"] = json!([{
        "name": "first", "image": BUSYBOX, "command": ["sleep", "2"]}]);
    pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "main"});

    let (_first, one) = hutch(&world, &postgres, &agent_binary(), "").await;
    let (_second, two) = hutch(&world, &postgres, &agent_binary(), "").await;
    let mut all = Vec::new();
    for i in 0..16 {
        let id = format!("c-{i}");
        conversation(&postgres, &id, Some("P")).await;
        all.push(if i % 2 == 0 { &one } else { &two }.about(&id));
    }
    // They also wait for the pod: it exists, and does not run yet.
    create(&world, pod).await;
    known(&one, "pair").await;
    known(&two, "pair").await;
    let code = "echo $WHO $(id -u) $(hostname); echo one >> /tmp/all";
    let output = join_all(all.iter().map(|backend| backend.stdout(code))).await;
    assert!(
        output.iter().all(|output| output == "main 1000 pair\n"),
        "{output:?}"
    );
    assert_eq!(one.about("c-0").stdout("wc -l < /tmp/all").await, "16\n");
    one_agent(&one.about("c-0")).await;
    assert_eq!(world.count().await, 0);

    // The other container of the pod has the same network, and its own agent.
    let note =
        json!({"metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "side"}}});
    let params = PatchParams::default();
    world
        .pods()
        .patch("pair", &params, &Patch::Merge(&note))
        .await
        .unwrap();
    eventually("the other container is used", async || {
        let output = one.about("c-0").stdout("echo $WHO $(id -u)").await;
        (output == "side 0\n").then_some(())
    })
    .await;
    one_agent(&one.about("c-0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_container_gets_an_agent_again() {
    let (world, postgres) = (World::new("restart").await, Postgres::start().await);
    postgres.project("P").await;
    name(&postgres, "P", "mortal").await;
    let container = json!({"command": ["sh", "-c", UNTIL_TOLD]});
    create(&world, theirs("mortal", BUSYBOX, container)).await;
    runs(&world, "mortal").await;
    let (_hutch, backend) = hutch(&world, &postgres, &agent_binary(), "s-P").await;
    backend.stdout("touch mark").await;
    // The container may end before the answer is sent.
    let end = json!({"command": "touch /tmp/end"});
    backend.call("/execute", end).await;
    let restarted = |pod: &Pod| {
        let all = pod
            .status
            .as_ref()
            .and_then(|it| it.container_statuses.as_ref());
        all.is_some_and(|all| all[0].restart_count == 1)
    };
    world.object("mortal", restarted).await;
    let output = backend.stdout("ls; hostname").await;
    assert_eq!(output, "mortal\n");
    one_agent(&backend).await;
    assert_eq!(world.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_label_or_the_pod_a_sandbox_is_created() {
    let (world, postgres) = (World::new("unlabelled").await, Postgres::start().await);
    postgres.project("P").await;
    name(&postgres, "P", "theirs").await;
    let mut pod = theirs("theirs", BUSYBOX, json!({}));
    pod["metadata"]["labels"] = json!({labels::ATTACH: "false"});
    create(&world, pod).await;
    runs(&world, "theirs").await;
    let (hutch, backend) = hutch(&world, &postgres, &agent_binary(), "s-P").await;
    let own = backend.stdout("hostname").await;
    assert_ne!(own, "theirs\n");
    assert_eq!(of_project(&world, "P").await.len(), 1);
    // A row that a user has set to a live pod stays.
    world
        .condition(own.trim(), "DatabaseSynced", "SetByOthers")
        .await;
    let label = async |value: &str| {
        let patch = json!({"metadata": {"labels": {labels::ATTACH: value}}});
        let params = PatchParams::default();
        world
            .pods()
            .patch("theirs", &params, &Patch::Merge(&patch))
            .await
            .unwrap();
    };
    let moves_to = async |host: &str| {
        eventually(&format!("the conversation works in {host}"), async || {
            (backend.stdout("hostname").await == host).then_some(())
        })
        .await;
    };
    label("true").await;
    moves_to("theirs\n").await;
    label("no").await;
    moves_to(&own).await;
    label("true").await;
    moves_to("theirs\n").await;
    assert_eq!(postgres.writes().await.len(), 0);

    // The pod is gone: the existing sandbox is used again, and the row follows.
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("theirs", &now).await.unwrap();
    world.gone::<Pod>("theirs").await;
    moves_to(&own).await;
    named(&world, &postgres, "P", |pod| pod.name_any() == own.trim()).await;

    // The same without an earlier sandbox: one is created.
    postgres.project("Q").await;
    name(&postgres, "Q", "second").await;
    create(&world, theirs("second", BUSYBOX, json!({}))).await;
    known(&backend, "second").await;
    let backend = backend.about("s-Q");
    assert_eq!(backend.stdout("hostname").await, "second\n");
    world
        .pods()
        .delete("second", &DeleteParams::default())
        .await
        .unwrap();
    world.gone::<Pod>("second").await;
    let made = backend.stdout("hostname; pwd").await;
    let pod = named(&world, &postgres, "Q", |pod| pod.name_any() != "second").await;
    assert_eq!(made, format!("{}\n/sandbox\n", pod.name_any()));
    assert!(
        hutch
            .log()
            .contains("the named container is gone: made another")
    );
}
