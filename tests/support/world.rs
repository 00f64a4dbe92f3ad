//! The world of one test: its namespace, and everything that is needed to observe it. When
//! the test fails, it prints objects, events and the end of the logs.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace, Node as K8sNode, PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::environment::{self, Environment};
use super::hutch::installed;
use super::{Hutch, Tenant};
use hutch_api::{Phase, Sandbox, SandboxSpec};
use hutch_core::names;

/// The limit of every wait.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of each log that a failed test prints.
const LOG_LINES: usize = 60;

/// The test's own namespace, or the emptied namespace of a tenant of an installed Hutch.
pub struct World {
    pub environment: &'static Environment,
    pub namespace: String,
    pub client: Client,
    /// Logs of the Hutch processes.
    directory: TempDir,
}

impl World {
    /// Creates a namespace on the current cluster.
    pub async fn new(test: &str) -> Self {
        Self::on(
            tokio::task::spawn_blocking(environment::current)
                .await
                .unwrap(),
            test,
        )
        .await
    }

    /// Creates a namespace on that cluster.
    pub async fn on(environment: &'static Environment, test: &str) -> Self {
        let client = environment.client().await;
        let shared = installed();
        let namespace = match &shared {
            Some(installed) => installed.namespace.clone(),
            None => made(&client, test).await,
        };
        let world = Self {
            environment,
            namespace,
            client,
            directory: tempfile::tempdir().unwrap(),
        };
        if shared.is_some() {
            world.empty().await;
        }
        world
    }

    /// Deletes what the previous test has left.
    async fn empty(&self) {
        let (delete, all) = (DeleteParams::foreground(), ListParams::default());
        let deleted = self.sandboxes().delete_collection(&delete, &all).await;
        deleted.unwrap();
        eventually("no sandbox is left", async || {
            let sandboxes = self.sandboxes().list(&all).await.unwrap().items;
            let pods = self.pods().list(&all).await.unwrap().items;
            (sandboxes.is_empty() && pods.is_empty()).then_some(())
        })
        .await;
    }

    /// Starts `hutch ROLE` in this namespace.
    pub async fn hutch(&self, role: &'static str, arguments: &[&str]) -> Hutch {
        let directory = self.directory.path();
        Hutch::start(
            self.environment,
            &self.namespace,
            directory,
            role,
            arguments,
        )
        .await
    }

    /// Starts `hutch ROLE` in this namespace with another kubeconfig, and waits for
    /// nothing.
    pub fn hutch_on(
        &self,
        environment: &Environment,
        role: &'static str,
        arguments: &[&str],
    ) -> Hutch {
        let directory = self.directory.path();
        Hutch::spawn(environment, &self.namespace, directory, role, arguments)
    }

    /// Starts `hutch run` in this namespace. If a Hutch is installed, it is used instead,
    /// with its own settings.
    pub async fn facade(&self, arguments: &[&str]) -> Hutch {
        match installed() {
            Some(installed) if arguments.is_empty() => Hutch::installed(installed),
            Some(_) => panic!("the installed Hutch was not started with {arguments:?}"),
            None => self.hutch("run", arguments).await,
        }
    }

    /// Starts `hutch run` in this namespace, and a client for the sandbox `id`.
    pub async fn with_tenant(&self, id: &str, arguments: &[&str]) -> (Hutch, Tenant) {
        let hutch = self.facade(arguments).await;
        let tenant = Tenant::new(&hutch.url().await, id);
        (hutch, tenant)
    }

    /// Name of the node that the tests run on.
    pub async fn node_name(&self) -> String {
        let nodes = Api::<K8sNode>::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await.unwrap();
        nodes.items[0].name_any()
    }

    pub fn sandboxes(&self) -> Api<Sandbox> {
        self.api()
    }

    pub fn pods(&self) -> Api<Pod> {
        self.api()
    }

    pub fn claims(&self) -> Api<PersistentVolumeClaim> {
        self.api()
    }

    /// Objects of any namespaced kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a Sandbox as `kubectl apply` would.
    pub async fn create(&self, name: &str, spec: SandboxSpec) -> Sandbox {
        let sandbox = Sandbox::new(name, spec);
        self.sandboxes()
            .create(&PostParams::default(), &sandbox)
            .await
            .unwrap()
    }

    /// The sandbox of a REST client's id.
    pub async fn sandbox_of(&self, id: &str) -> Sandbox {
        self.sandboxes().get(&names::sandbox(id)).await.unwrap()
    }

    /// The sandbox, once it is as `wanted`.
    pub async fn sandbox(&self, name: &str, wanted: impl Fn(&Sandbox) -> bool) -> Sandbox {
        self.object(name, wanted).await
    }

    /// The sandbox, once it is Ready in its current generation.
    pub async fn ready(&self, name: &str) -> Sandbox {
        self.sandbox(name, |sandbox| {
            sandbox.status.as_ref().is_some_and(|status| {
                status.phase == Phase::Ready
                    && status.observed_generation == sandbox.metadata.generation
            })
        })
        .await
    }

    /// The object of that name, once it is as `wanted`.
    pub async fn object<K>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let what = format!("{name} as wanted");
        eventually(&what, async || {
            api.get_opt(name).await.unwrap().filter(&wanted)
        })
        .await
    }

    /// Waits until there is no object of that kind and name.
    pub async fn gone<K>(&self, name: &str)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        eventually(&format!("{name} is gone"), async || {
            api.get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// Reasons and texts of the events of this namespace.
    pub async fn events(&self) -> Vec<(String, String)> {
        let events = self
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let text = |event: Event| {
            (
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
            )
        };
        events.items.into_iter().map(text).collect()
    }

    fn explain(&self) {
        let kubectl = |arguments: &[&str]| {
            let mut command = self.environment.kubectl();
            let output = command
                .args(arguments)
                .args(["-n", &self.namespace])
                .output();
            output.map_or_else(
                |e| e.to_string(),
                |o| String::from_utf8_lossy(&o.stdout).into_owned(),
            )
        };
        eprintln!("--- {}", self.namespace);
        eprintln!(
            "{}",
            kubectl(&["get", "sbx,sbs,pods,pvc,leases", "-o", "wide"])
        );
        eprintln!("{}", kubectl(&["get", "sbx", "-o", "yaml"]));
        eprintln!(
            "{}",
            kubectl(&["get", "events", "--sort-by=.lastTimestamp"])
        );
        for entry in std::fs::read_dir(self.directory.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- {}", entry.file_name().to_string_lossy());
            eprintln!(
                "{}",
                lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        if installed().is_some() {
            return;
        }
        // A separate thread, because this may run inside an async runtime.
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        let delete = async move {
            let api = Api::<Namespace>::all(client);
            let _ = api.delete(&namespace, &DeleteParams::background()).await;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let thread = std::thread::spawn(move || runtime.block_on(delete));
            let _ = thread.join();
        }
    }
}

/// Creates a namespace.
async fn made(client: &Client, test: &str) -> String {
    let mut namespace = Namespace::default();
    namespace.metadata.generate_name = Some(format!("{test}-"));
    let namespaces = Api::all(client.clone());
    let made = namespaces.create(&PostParams::default(), &namespace).await;
    made.unwrap().name_any()
}

/// Looks again and again until `look` returns a value. One look may take as long as all
/// of them: it may be a request to a sandbox that starts.
pub async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let give_up = tokio::time::Instant::now() + WAIT_TIMEOUT;
    loop {
        let looked = tokio::time::timeout(WAIT_TIMEOUT, look()).await;
        let looked = looked.unwrap_or_else(|_| panic!("one look took {WAIT_TIMEOUT:?}: {what}"));
        if let Some(found) = looked {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < give_up,
            "not within {WAIT_TIMEOUT:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An HTTP client whose requests end within [`WAIT_TIMEOUT`].
pub fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().timeout(WAIT_TIMEOUT);
    client.build().expect("an HTTP client can be made")
}

/// The process ID of a sandbox's agent on this machine.
pub async fn agent_pid(world: &World, id: &str) -> u32 {
    let uid = world.sandbox_of(id).await.status.unwrap().pod_uid.unwrap();
    let mark = format!("pod{uid}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let read = |file: &str| {
                std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
            };
            read("cgroup").contains(&mark) && read("cmdline").contains("hutch-agent\0run")
        })
        .expect("the agent runs on this machine")
}
