//! A `hutch-node` for one test's namespace, with its own state directory. At its end the
//! test ends the mounters that its records name, and no others.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hutch_core::names;
use hutch_node::Process;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Hutch, S3, World};
use hutch_api::credentials;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};

/// How long the kernel may need to end a killed process and to free its cgroup.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A running `hutch-node`; dropping it kills it and its mounters.
pub struct Node {
    hutch: Option<Hutch>,
    state: TempDir,
    arguments: Vec<String>,
}

impl World {
    /// Starts `hutch-node` for the sandboxes of this namespace. Buckets may use HTTP.
    pub async fn node(&self) -> Node {
        self.node_with(&["--allow-http-buckets"]).await
    }

    /// Starts `hutch-node` for the sandboxes of this namespace, with further arguments.
    pub async fn node_with(&self, arguments: &[&str]) -> Node {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let state = tempfile::tempdir().unwrap();
        let mut node = Node {
            hutch: None,
            state,
            arguments,
        };
        node.start(self).await;
        node
    }

    /// Changes the keys of a Secret.
    pub async fn change_secret(&self, name: &str, access_key: &str, secret_key: &str) {
        let change = json!({"stringData": {
            credentials::ACCESS_KEY_ID: access_key,
            credentials::SECRET_ACCESS_KEY: secret_key,
        }});
        let params = PatchParams::default();
        let secrets = self.api::<Secret>();
        secrets
            .patch(name, &params, &Patch::Merge(&change))
            .await
            .unwrap();
    }

    /// Creates a Secret with S3 credentials.
    pub async fn secret(&self, name: &str, access_key: &str, secret_key: &str) {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": name},
            "stringData": {
                credentials::ACCESS_KEY_ID: access_key,
                credentials::SECRET_ACCESS_KEY: secret_key,
            },
        }))
        .unwrap();
        let params = PostParams::default();
        self.api().create(&params, &secret).await.unwrap();
    }

    /// Creates the Secret `keys` with the server's S3 credentials.
    pub async fn keys(&self, s3: &S3) {
        self.secret("keys", &s3.access_key, &s3.secret_key).await;
    }
}

impl Node {
    /// A state directory on the host for a `hutch-node` that the test starts in another
    /// way. Its mounters end with this value.
    pub fn of_others() -> Self {
        Self {
            hutch: None,
            state: TempDir::new_in("/run").unwrap(),
            arguments: Vec::new(),
        }
    }

    /// Starts the process with the state of an earlier one.
    pub async fn start(&mut self, world: &World) {
        let state = self.state.path().display().to_string();
        let name = world.node_name().await;
        let (driver, kubelet) = (world.driver().await, world.kubelet());
        let kubelet = kubelet.display().to_string();
        let mut all = vec!["--state-dir", &state, "--node-name", &name];
        all.extend(["--kubelet-dir", &kubelet]);
        all.extend(self.arguments.iter().map(String::as_str));
        self.hutch = Some(world.hutch("node", &all).await);
        world.until_registered(&driver).await;
    }

    pub fn hutch(&self) -> &Hutch {
        self.hutch.as_ref().unwrap()
    }

    /// Sends SIGTERM. The process has to end without an error.
    pub async fn stop(&mut self) {
        if let Some(hutch) = self.hutch.take() {
            assert!(hutch.stop().await.success());
        }
    }

    /// Sends SIGKILL to the process. Its mounters keep running.
    pub fn kill(&mut self) {
        if let Some(hutch) = self.hutch.take() {
            hutch.kill();
        }
    }

    /// The mounters in its records.
    pub fn mounters(&self) -> Vec<Process> {
        let records = self.records().into_iter();
        let processes = records.filter_map(|record| {
            let process = record["process"].clone();
            serde_json::from_value::<Process>(process).ok()
        });
        processes.filter(|process| process.runs()).collect()
    }

    /// The mounter of a bucket, as its sandbox's spec names it.
    pub fn mounter(&self, bucket: &str) -> Process {
        let end = format!("/{bucket}");
        let records = self.records();
        let own = |record: &&Value| record["id"].as_str().unwrap().ends_with(&end);
        let record = records.iter().find(own).expect("it has a record");
        serde_json::from_value(record["process"].clone()).unwrap()
    }

    fn records(&self) -> Vec<Value> {
        let files = std::fs::read_dir(self.state.path().join("mounts"));
        let files = files
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        files
            .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
            .filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok())
            .collect()
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// The existing cgroups of its mounters.
    fn cgroups(&self) -> Vec<PathBuf> {
        let state = self.state.path().canonicalize().unwrap();
        let digest = names::digest(state.as_os_str().as_encoded_bytes(), 8);
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let hierarchies = hierarchies.map(|entry| entry.path());
        hierarchies
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|hierarchy| hierarchy.join(format!("hutch-node-{digest}")))
            .filter(|directory| directory.is_dir())
            .collect()
    }

    /// Everything besides the process: mounters, records, cgroups.
    pub fn left(&self) -> Vec<String> {
        let mut all: Vec<_> = self
            .mounters()
            .iter()
            .map(|one| format!("{one:?}"))
            .collect();
        all.extend(self.records().iter().map(Value::to_string));
        all.extend(
            self.cgroups()
                .iter()
                .map(|directory| directory.display().to_string()),
        );
        all
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        // A mounter that is just being started has no record yet, but it has a cgroup.
        let grouped = self
            .cgroups()
            .into_iter()
            .flat_map(|directory| members(&directory));
        for mounter in self.mounters().into_iter().chain(grouped) {
            mounter.signal(Signal::KILL);
            let give_up = Instant::now() + KILL_TIMEOUT;
            while mounter.runs() {
                if Instant::now() > give_up {
                    // No panic: this may run because of one.
                    eprintln!("a killed mounter still runs after {KILL_TIMEOUT:?}");
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // The kernel may need a moment after the last process.
        let give_up = Instant::now() + KILL_TIMEOUT;
        while !self.cgroups().is_empty() && Instant::now() < give_up {
            for directory in self.cgroups() {
                for inner in directories(&directory) {
                    let _ = std::fs::remove_dir(inner);
                }
                let _ = std::fs::remove_dir(&directory);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn directories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

/// The processes in the cgroups below one.
fn members(directory: &Path) -> Vec<Process> {
    let lists = directories(directory).into_iter();
    let lists = lists.filter_map(|inner| std::fs::read_to_string(inner.join("cgroup.procs")).ok());
    let pids = lists.flat_map(|list| list.lines().map(str::to_owned).collect::<Vec<_>>());
    pids.filter_map(|pid| Process::of(pid.parse().ok()?))
        .collect()
}
