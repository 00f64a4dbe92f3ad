//! Installs the chart with Helm and the image of `make image`. Each test has two
//! namespaces: one for Hutch, one for the sandboxes. The controller watches only the
//! latter, because other tests share the cluster.

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

/// Directory of the chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/hutch");
/// Two tags of the same image, so that a release can be upgraded.
const REPOSITORY: &str = "hutch.dev/hutch";
pub const TAGS: [&str; 2] = ["installed", "upgraded"];

/// A release before or after its installation.
pub struct Release {
    /// Hutch's own namespace. The release has the same name.
    pub home: World,
    /// Namespace of the sandboxes.
    pub tenant: String,
}

impl Release {
    /// Installs the chart with further values, for the existing namespace of `world`.
    pub async fn install(world: &World, values: Value) -> Self {
        let home = World::new("chart").await;
        let tenant = world.namespace.clone();
        let release = Self { home, tenant };
        release.apply("install", TAGS[0], &values, &[]);
        release
    }

    /// Imports the image of `hutch-node` into the node, under that tag.
    pub fn load_node(environment: &Environment, tag: &str) {
        let name = format!("{REPOSITORY}-node:{tag}");
        import(environment, |archive| programs().node(&name, archive));
    }

    /// The release's name.
    pub fn name(&self) -> &str {
        &self.home.namespace
    }

    /// Beginning of the names of the chart's objects, by the rule of `hutch.fullname`.
    pub fn fullname(&self) -> String {
        match self.name() {
            name if name.contains("hutch") => name.to_owned(),
            name => format!("{name}-hutch"),
        }
    }

    /// User name of a component's ServiceAccount.
    pub fn user(&self, component: &str) -> String {
        let (name, fullname) = (self.name(), self.fullname());
        format!("system:serviceaccount:{name}:{fullname}-{component}")
    }

    /// Runs `helm install` or `helm upgrade`, waits for it and returns its output.
    pub fn apply(&self, what: &str, tag: &str, values: &Value, more: &[&str]) -> String {
        self.apply_chart(Path::new(CHART), what, tag, values, more)
    }

    /// Like `apply`, with another chart.
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
            .unwrap_or_else(|printed| panic!("helm {what}: {printed}"))
    }

    /// Values that separate the release from those of other tests.
    fn values(&self, tag: &str) -> Value {
        json!({
            "image": {"repository": REPOSITORY, "tag": tag},
            // They exist already, and other tests need them.
            "crds": {"install": false},
            "watchNamespace": self.tenant,
            "tenants": [{"namespace": self.tenant, "size": "lite", "sandboxes": 20}],
            "node": {"driver": super::volume::driver(&self.tenant)},
            // Smaller than in production: other tests run on the same machine.
            "controller": {"resources": {"requests": {"cpu": "10m"}}},
            "facade": {"resources": {"requests": {"cpu": "10m"}}},
        })
    }

    /// Runs `helm ARGUMENTS` in Hutch's namespace with `input` on stdin, and returns its output.
    pub fn helm(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = helm();
        command.env("KUBECONFIG", &self.home.environment.kubeconfig);
        command.args(["--namespace", self.name()]).args(arguments);
        run(command, input)
    }

    /// Creates a key for the sandboxes with the command of NOTES.txt.
    pub fn key(&self, tenant: &str, more: &[&str]) -> String {
        self.key_to(&self.tenant, tenant, more)
    }

    /// Like `key`, for the sandboxes of another namespace.
    pub fn key_to(&self, namespace: &str, tenant: &str, more: &[&str]) -> String {
        let controller = format!("deploy/{}-controller", self.fullname());
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
        let service = services.get(&self.fullname()).await.unwrap();
        let address = service.spec.unwrap().cluster_ip.unwrap();
        format!("http://{address}:8787")
    }

    /// Base URL with a key that every replica knows.
    pub async fn keyed_url(&self, scopes: &str) -> String {
        self.keyed_url_with(&["--scope", scopes]).await
    }

    /// Like `keyed_url`, with further arguments of `hutch keys create`.
    pub async fn keyed_url_with(&self, more: &[&str]) -> String {
        self.url_of(&self.key("acme", more)).await
    }

    /// Waits until every replica knows the key, and returns the base URL with it.
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
                self.home
                    .kubectl(&logs, "")
                    .unwrap_or_else(|printed| printed)
            );
        }
        // Deleting the namespaces does not delete cluster-scoped objects.
        let arguments = ["uninstall", self.name(), "--ignore-not-found"];
        if let Err(printed) = self.helm(&arguments, "") {
            eprintln!("helm uninstall: {printed}");
        }
    }
}

/// Helm as built by `testcluster run`. Builds it if there is none.
pub fn helm() -> Command {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    Command::new(HELM.get_or_init(|| match std::env::var_os("HUTCH_HELM") {
        Some(path) => path.into(),
        None => Cluster::helm(&Options::default()).expect("Helm is built"),
    }))
}

/// Runs a program with `input` on stdin. Returns its output, as an error if it fails.
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
    let printed = text(&output.stdout) + &text(&output.stderr);
    output
        .status
        .success()
        .then(|| printed.clone())
        .ok_or(printed)
}

/// The programs in the images.
pub fn programs() -> Images {
    let hutch = Path::new(env!("CARGO_BIN_EXE_hutch"));
    Images::of(hutch.parent().unwrap(), environment::agent_binary()).unwrap()
}

/// Imports the operator's image into the node, once.
fn load(environment: &Environment) {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        for tag in TAGS {
            let name = format!("{REPOSITORY}:{tag}");
            import(environment, |archive| programs().operator(&name, archive));
        }
    });
}

/// Imports an image, which `write` writes to an archive, into the node.
pub fn import(environment: &Environment, write: impl Fn(&Path) -> anyhow::Result<()>) {
    let cluster = environment.require_test_cluster();
    tokio::task::block_in_place(|| {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("image.tar");
        write(&archive).unwrap();
        cluster.import(&archive).unwrap();
    });
}

/// Merges `more` into `values`, as Helm does.
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
