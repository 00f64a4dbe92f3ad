//! The chart as Helm installs it, with the image that `make image` makes, in
//! namespaces of one test: one of Hutch's own, and one that the sandboxes are in.
//! Its controller looks at the latter only, as other tests share the cluster.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use hutch_testcluster::{Cluster, Images, Options};
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use serde_json::{Value, json};

use super::access::{knock_with, with_user};
use super::environment::{self, Environment};
use super::world::eventually;
use super::{Tenant, World};

/// The chart's folder.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/hutch");
/// The image under two tags: a release can be upgraded from one to the other.
const REPOSITORY: &str = "hutch.dev/hutch";
pub const TAGS: [&str; 2] = ["installed", "upgraded"];

/// A release that is to be, or is, installed.
pub struct Release {
    /// Hutch's own namespace, whose name the release has, too.
    pub home: World,
    /// Namespace of the sandboxes.
    pub tenant: String,
}

impl Release {
    /// Installs the chart for the namespace of `world`, which is there, with further
    /// values.
    pub async fn install(world: &World, values: Value) -> Self {
        let home = World::new("chart").await;
        let tenant = world.namespace.clone();
        let release = Self { home, tenant };
        release.apply("install", TAGS[0], &values, &[]);
        release
    }

    /// Puts the image of `hutch node` on the node, under that tag.
    pub fn load_node(environment: &Environment, tag: &str) {
        let name = format!("{REPOSITORY}-node:{tag}");
        import(environment, |archive| programs().node(&name, archive));
    }

    /// The release's name.
    pub fn name(&self) -> &str {
        &self.home.namespace
    }

    /// `helm install` or `helm upgrade`, waited for; what it said.
    pub fn apply(&self, what: &str, tag: &str, values: &Value, more: &[&str]) -> String {
        self.apply_chart(Path::new(CHART), what, tag, values, more)
    }

    /// The same with another chart.
    pub fn apply_chart(
        &self,
        chart: &Path,
        what: &str,
        tag: &str,
        values: &Value,
        more: &[&str],
    ) -> String {
        load(self.home.environment);
        let mut all = self.values(tag);
        merge(&mut all, values);
        let chart = chart.to_str().unwrap();
        let arguments = [what, self.name(), chart, "--wait", "--timeout", "2m"];
        let arguments = [&arguments, ["--values", "-"].as_slice(), more].concat();
        self.helm(&arguments, &all.to_string())
            .unwrap_or_else(|said| panic!("helm {what}: {said}"))
    }

    /// The values that make the release this test's own.
    fn values(&self, tag: &str) -> Value {
        json!({
            "image": {"repository": REPOSITORY, "tag": tag},
            // The cluster has them, and other tests need them.
            "crds": {"install": false},
            "watchNamespace": self.tenant,
            "tenants": [{"namespace": self.tenant, "size": "lite", "sandboxes": 20}],
            "node": {"driver": super::volume::driver(&self.tenant)},
            // Less than in production, for a machine that runs other tests as well.
            "controller": {"resources": {"requests": {"cpu": "10m"}}},
            "facade": {"resources": {"requests": {"cpu": "10m"}}},
        })
    }

    /// `helm ARGUMENTS` in Hutch's namespace, fed with `input`: what it said.
    pub fn helm(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = helm();
        command.env("KUBECONFIG", &self.home.environment.kubeconfig);
        command.args(["--namespace", self.name()]).args(arguments);
        run(command, input)
    }

    /// A key for the sandboxes, made as NOTES.txt says.
    pub fn key(&self, tenant: &str, more: &[&str]) -> String {
        self.key_to(&self.tenant, tenant, more)
    }

    /// The same for the sandboxes of another namespace.
    pub fn key_to(&self, namespace: &str, tenant: &str, more: &[&str]) -> String {
        let controller = format!("deploy/{}-controller", self.name());
        let create = [
            "exec",
            &controller,
            "--",
            "/hutch",
            "keys",
            "create",
            tenant,
        ];
        let arguments = [&create, ["--namespace", namespace].as_slice(), more].concat();
        let made = self.home.kubectl(&arguments, "").unwrap();
        made.trim().to_owned()
    }

    /// Base URL of the facade.
    pub async fn url(&self) -> String {
        let services = Api::<Service>::namespaced(self.home.client.clone(), self.name());
        let service = services.get(self.name()).await.unwrap();
        let address = service.spec.unwrap().cluster_ip.unwrap();
        format!("http://{address}:8787")
    }

    /// Base URL with a key that every replica knows.
    pub async fn keyed_url(&self, scopes: &str) -> String {
        self.keyed_url_with(&["--scope", scopes]).await
    }

    /// The same with what `hutch keys create` lets one say.
    pub async fn keyed_url_with(&self, more: &[&str]) -> String {
        self.url_of(&self.key("acme", more)).await
    }

    /// Base URL with that key, once every replica knows it.
    pub async fn url_of(&self, key: &str) -> String {
        let url = self.url().await;
        eventually("the key is known", async || {
            (knock_with(&url, key).await == 200).then_some(())
        })
        .await;
        with_user(&url, &format!("any:{key}"))
    }

    /// A client of the sandbox `id`.
    pub async fn tenant(&self, id: &str) -> Tenant {
        Tenant::new(&self.keyed_url("tenant").await, id)
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let own = format!("app.kubernetes.io/instance={}", self.name());
            let logs = ["logs", "--prefix", "--tail", "40", "--selector", &own];
            eprintln!(
                "{}",
                self.home.kubectl(&logs, "").unwrap_or_else(|said| said)
            );
        }
        // What it has outside of its namespaces would stay.
        let arguments = ["uninstall", self.name(), "--ignore-not-found"];
        if let Err(said) = self.helm(&arguments, "") {
            eprintln!("helm uninstall: {said}");
        }
    }
}

/// Helm, as `testcluster run` has built it, or builds it now.
pub fn helm() -> Command {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    Command::new(HELM.get_or_init(|| match std::env::var_os("HUTCH_HELM") {
        Some(path) => path.into(),
        None => Cluster::helm(&Options::default()).expect("Helm is built"),
    }))
}

/// Runs a program, fed with `input`: what it said, in good and bad times.
pub fn run(mut command: Command, input: &str) -> Result<String, String> {
    let run = || {
        let pipe = Stdio::piped;
        command.stdin(pipe()).stdout(pipe()).stderr(pipe());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::block_in_place(run);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    output.status.success().then(|| said.clone()).ok_or(said)
}

/// The programs that the images are made of.
pub fn programs() -> Images {
    let hutch = Path::new(env!("CARGO_BIN_EXE_hutch"));
    Images::of(hutch.parent().unwrap(), environment::agent_binary()).unwrap()
}

/// Puts the operator's image on the node, once.
fn load(environment: &Environment) {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        for tag in TAGS {
            let name = format!("{REPOSITORY}:{tag}");
            import(environment, |archive| programs().operator(&name, archive));
        }
    });
}

/// Puts an image on the node that is written to an archive.
pub fn import(environment: &Environment, write: impl Fn(&Path) -> anyhow::Result<()>) {
    let cluster = environment.cluster.as_ref();
    let cluster = cluster.expect("images are tested on a test cluster");
    tokio::task::block_in_place(|| {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        write(&archive).unwrap();
        cluster.import(&archive).unwrap();
    });
}

/// Puts `more` over `values`, as Helm does.
fn merge(values: &mut Value, more: &Value) {
    match (values, more) {
        (Value::Object(values), Value::Object(more)) => {
            for (key, value) in more {
                merge(values.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (values, more) => *values = more.clone(),
    }
}
