//! The cluster that the tests run on: the one that `HUTCH_KUBECONFIG` names, or else a test
//! cluster. The test cluster is started here and keeps running.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hutch_api::{Sandbox, SandboxSession, SandboxSpec};
use hutch_testcluster::versions::LANGUAGES_IMAGE;
use hutch_testcluster::{Cluster, Options, Profile};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::wait::conditions::{is_crd_established, is_deleted};
use kube::{Client, Config, CustomResourceExt, ResourceExt, config::Kubeconfig};
use tokio::sync::OnceCell;

/// A limit in bytes: the agent is copied into every sandbox.
const MAX_AGENT_BYTES: u64 = 4_000_000;
/// The agent's image, as the tests load it into a test cluster.
const AGENT_IMAGE: &str = "hutch.dev/hutch:test";

/// A cluster with the custom resources and the agent's image.
pub struct Environment {
    pub kubeconfig: PathBuf,
    pub agent_image: String,
    /// The processes of the test cluster. `None` on another cluster.
    pub cluster: Option<Cluster>,
    prepared: OnceCell<()>,
    languages: OnceLock<()>,
}

/// The cluster of most tests.
pub fn current() -> &'static Environment {
    static CURRENT: OnceLock<Environment> = OnceLock::new();
    CURRENT.get_or_init(|| {
        let named = std::env::var_os("HUTCH_KUBECONFIG").filter(|path| !path.is_empty());
        let ours = std::env::var_os("HUTCH_TESTCLUSTER").is_some();
        match named {
            Some(kubeconfig) if !ours => Environment {
                kubeconfig: kubeconfig.into(),
                agent_image: std::env::var("HUTCH_AGENT_IMAGE")
                    .expect("HUTCH_AGENT_IMAGE names the agent's image for HUTCH_KUBECONFIG"),
                cluster: None,
                prepared: OnceCell::new(),
                languages: OnceLock::new(),
            },
            _ => bring_up(Profile::Current),
        }
    })
}

/// A second cluster, with a container runtime that has neither image volumes nor
/// user namespaces.
pub fn older() -> &'static Environment {
    static OLDER: OnceLock<Environment> = OnceLock::new();
    OLDER.get_or_init(|| bring_up(Profile::Older))
}

fn bring_up(profile: Profile) -> Environment {
    let options = Options {
        profile,
        ..Options::default()
    };
    let cluster = Cluster::up(&options).expect("the test cluster comes up");
    let agent = agent_binary();
    cluster
        .load_image(AGENT_IMAGE, &[("/hutch-agent", &agent)])
        .expect("the agent's image is loaded");
    Environment {
        kubeconfig: cluster.kubeconfig().to_owned(),
        agent_image: AGENT_IMAGE.to_owned(),
        cluster: Some(cluster),
        prepared: OnceCell::new(),
        languages: OnceLock::new(),
    }
}

/// The static agent that `make` built.
pub fn agent_binary() -> PathBuf {
    let hutch = Path::new(env!("CARGO_BIN_EXE_hutch"));
    let target = hutch
        .ancestors()
        .nth(2)
        .expect("it is in a folder of a profile");
    let agent = target.join("agent/hutch-agent");
    assert!(
        agent.is_file(),
        "{} is missing: run `make agent`",
        agent.display()
    );
    let size = std::fs::metadata(&agent).expect("it has a size").len();
    assert!(
        size < MAX_AGENT_BYTES,
        "{} has {size} bytes",
        agent.display()
    );
    agent
}

impl Environment {
    /// A client for this cluster, with the custom resources in place.
    pub async fn client(&self) -> Client {
        let client = self.bare_client().await;
        let prepared = self.prepared.get_or_init(|| prepare(&client));
        prepared.await;
        client
    }

    async fn bare_client(&self) -> Client {
        let kubeconfig =
            Kubeconfig::read_from(&self.kubeconfig).expect("the kubeconfig is readable");
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .expect("the kubeconfig is usable");
        hutch_kube::client::connect(&config).expect("a client can be made")
    }

    /// The same cluster with another kubeconfig, which is written to `directory`. `edit` gets
    /// the cluster's and the user's part of the current one.
    pub fn edited(
        &self,
        directory: &Path,
        edit: impl FnOnce(&mut serde_json::Value, &mut serde_json::Value),
    ) -> Self {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let mut config: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
        let mut part = |list: &str, part: &str| config[list][0][part].take();
        let (mut cluster, mut user) = (part("clusters", "cluster"), part("users", "user"));
        edit(&mut cluster, &mut user);
        config["clusters"][0]["cluster"] = cluster;
        config["users"][0]["user"] = user;
        let kubeconfig = directory.join(format!("kubeconfig-{}", uuid::Uuid::new_v4()));
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self {
            kubeconfig,
            agent_image: self.agent_image.clone(),
            cluster: None,
            prepared: self.prepared.clone(),
            languages: OnceLock::new(),
        }
    }

    /// The test cluster.
    ///
    /// # Panics
    /// On a cluster of the user's own. The test fails then: it needs the test cluster's
    /// processes, files or images.
    pub fn require_test_cluster(&self) -> &Cluster {
        self.cluster.as_ref().unwrap_or_else(|| {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("THIS TEST");
            panic!(
                "{test} needs the test cluster, and HUTCH_KUBECONFIG names another one. Run it \
                 without HUTCH_KUBECONFIG (`make test`), or leave it out: \
                 cargo test --test cluster -- --skip {test}"
            )
        })
    }

    /// Loads the image with the languages into the test cluster's node. Returns its name.
    /// It blocks; the first time it builds the image, which takes minutes.
    pub fn languages(&self) -> &'static str {
        let cluster = self.require_test_cluster();
        self.languages
            .get_or_init(|| cluster.load_languages().expect("the image is loaded"));
        LANGUAGES_IMAGE
    }

    /// `kubectl` on this cluster.
    pub fn kubectl(&self) -> Command {
        let mut command = match &self.cluster {
            Some(cluster) => cluster.kubectl(),
            None => Command::new("kubectl"),
        };
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }
}

/// Creates the custom resource definitions, and waits until the cluster's garbage collector
/// knows them. That takes up to 30 s. Before that, the objects of a sandbox are not deleted
/// with it.
async fn prepare(client: &Client) {
    for crd in [Sandbox::crd(), SandboxSession::crd()] {
        let api = Api::all(client.clone());
        let (name, params) = (crd.name_any(), PatchParams::apply("hutch-tests").force());
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .expect("the API server takes the custom resource definitions");
        await_condition(api, &name, is_crd_established())
            .await
            .expect("they are established");
    }
    let spec = SandboxSpec {
        suspended: true,
        ..Default::default()
    };
    let probe = Sandbox::new(&format!("probe-{}", uuid::Uuid::new_v4()), spec);
    let api = Api::<Sandbox>::namespaced(client.clone(), "default");
    let made = api.create(&PostParams::default(), &probe).await.unwrap();
    let name = made.name_any();
    api.delete(&name, &DeleteParams::foreground())
        .await
        .unwrap();
    let uid = made.metadata.uid.unwrap();
    await_condition(api, &name, is_deleted(&uid)).await.unwrap();
}
