//! Starts, finds and repairs a cluster, and controls single components. `teardown` removes
//! a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::api::Api;
use crate::build::{self, Parts};
use crate::component::Component;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::network::Slot;
use crate::options::Options;
use crate::process::{Daemon, Spec};
use crate::progress::Progress;
use crate::supervisor::Supervisor;
use crate::versions::LANGUAGES_IMAGE;
use crate::{cgroup, config, host, images, mounts, pki, shell, teardown};

/// How long a start may take after everything is built.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A running single-node Kubernetes. Dropping this does not stop it.
pub struct Cluster {
    options: Options,
    layout: Layout,
    slot: Slot,
    parts: Parts,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// Builds all parts of a cluster, without starting one.
    pub fn prepare(options: &Options) -> Result<()> {
        host::check()?;
        Parts::build(options.profile, &Progress::new(options.progress)).map(drop)
    }

    /// The S3 server `versitygw`, built if it is not in the cache. No cluster needs
    /// it; tests of buckets do.
    pub fn s3_server(options: &Options) -> Result<PathBuf> {
        build::versitygw(&Progress::new(options.progress))
    }

    /// Helm, built if it is not in the cache. No cluster needs it; tests of the
    /// chart do.
    pub fn helm(options: &Options) -> Result<PathBuf> {
        build::helm(&Progress::new(options.progress))
    }

    /// Starts the cluster. If some components have ended, starts only these. If all run, does
    /// nothing. A second caller waits for the first.
    pub fn up(options: &Options) -> Result<Self> {
        host::check()?;
        let progress = Progress::new(options.progress);
        let parts = Parts::build(options.profile, &progress)?;
        let root = options.root()?;
        let _lock = Lock::take(&root)?;
        // State without a slot is from an earlier boot. Another cluster may use its addresses.
        if root.exists() && Slot::held_by(&root).is_none() {
            teardown::down(&root)?;
        }
        let slot = Slot::claim(&root)?;
        let cluster = Self::at(options, &root, slot, parts);
        if !cluster.is_up() {
            let task = progress.task("starting the cluster");
            cluster.start_all()?;
            task.done();
        }
        Ok(cluster)
    }

    /// Finds a cluster that was started. Fails if there is none.
    pub fn attach(options: &Options) -> Result<Self> {
        let root = options.root()?;
        let slot = Slot::held_by(&root).with_context(|| {
            format!(
                "no cluster in {}: bring one up with `testcluster up`",
                root.display()
            )
        })?;
        let parts = Parts::build(options.profile, &Progress::new(options.progress))?;
        Ok(Self::at(options, &root, slot, parts))
    }

    fn at(options: &Options, root: &Path, slot: Slot, parts: Parts) -> Self {
        let layout = Layout::new(root, slot);
        Self {
            options: options.clone(),
            kubeconfig: layout.kubeconfig(),
            layout,
            slot,
            parts,
        }
    }

    /// The administrator's kubeconfig. It contains its certificates.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The state directory of this cluster.
    pub fn root(&self) -> &Path {
        &self.layout.root
    }

    /// A directory with `kubectl`, for PATH.
    pub fn bin(&self) -> PathBuf {
        self.layout.bin()
    }

    /// The machine's address for the node and its pods. A server that pods call must listen
    /// on it.
    pub fn host_address(&self) -> std::net::Ipv4Addr {
        self.slot.host()
    }

    /// All addresses of the cluster (node, pods, services), as a CIDR. The machine can reach
    /// all of them.
    pub fn network(&self) -> String {
        self.slot.network()
    }

    /// The directory of the logs: one `<component>.log` each, and `audit.log`, a
    /// JSON line for each write that a user of the API server made, and for each
    /// request of a ServiceAccount.
    pub fn logs(&self) -> PathBuf {
        self.layout.root.join("logs")
    }

    /// The kubelet's directory, where the volumes of pods are mounted.
    pub fn kubelet_directory(&self) -> PathBuf {
        self.layout.kubelet()
    }

    /// True if every component runs and the node accepts pods.
    pub fn is_up(&self) -> bool {
        Component::ALL
            .iter()
            .all(|component| self.is_running(*component))
            && Api::new(&self.layout, self.slot).is_ok_and(|api| api.is_ready() && api.takes_pods())
    }

    /// True if the process of a component is alive.
    pub fn is_running(&self, component: Component) -> bool {
        self.daemon(component)
            .is_some_and(|daemon| daemon.is_alive())
    }

    /// The process of a component, if one was started.
    pub fn daemon(&self, component: Component) -> Option<Daemon> {
        Daemon::recorded(&self.layout.record(component.name()))
    }

    /// Stops a component: SIGTERM, then SIGKILL. The others keep running.
    pub fn stop(&self, component: Component) -> Result<()> {
        self.daemon(component)
            .map_or(Ok(()), |daemon| daemon.stop(component.grace()))
    }

    /// Ends a component with SIGKILL.
    pub fn kill(&self, component: Component) -> Result<()> {
        self.daemon(component)
            .map_or(Ok(()), |daemon| daemon.kill())
    }

    /// Starts a component if it does not run. `wait_until_up` waits until it is usable.
    pub fn start(&self, component: Component) -> Result<()> {
        if self.is_running(component) {
            return Ok(());
        }
        self.supervisor()?
            .spawn(&component.spec(&self.layout, self.slot, &self.parts))
            .map(drop)
    }

    /// Waits until every component runs and the node accepts pods. If a component has ended,
    /// fails at once with the last lines of its log.
    pub fn wait_until_up(&self, limit: Duration) -> Result<()> {
        self.wait(limit, &Component::ALL, Api::takes_pods)
    }

    /// Starts any process as a child of the cluster's supervisor, which reaps it. Its
    /// environment is exactly `spec.env`.
    pub fn spawn(&self, spec: &Spec) -> Result<Daemon> {
        self.supervisor()?.spawn(spec)
    }

    /// Builds an image that contains only these files (path in the image, file of this
    /// machine; all executable) and imports it as `name`.
    pub fn load_image(&self, name: &str, files: &[(&str, &Path)]) -> Result<()> {
        let (first, _) = files.first().context("an image needs at least one file")?;
        let archive = self
            .layout
            .root
            .join(format!("image-{}.tar", std::process::id()));
        let mut layer = images::Layer::new(&archive)?;
        for (path, file) in files {
            layer.file(path, file)?;
        }
        let entry = format!("/{}", first.trim_start_matches('/'));
        images::Image::new(name, &[&entry]).write(&archive, layer)?;
        let imported = self.import(&archive);
        fs::remove_file(&archive)?;
        imported
    }

    /// Imports an OCI archive into the node, with the name from the archive.
    pub fn import(&self, archive: &Path) -> Result<()> {
        images::import(&self.parts.ctr(), &self.layout.containerd_socket(), archive)
    }

    /// Loads [`LANGUAGES_IMAGE`](crate::versions::LANGUAGES_IMAGE) into the node, unless it
    /// is there: Debian with Node.js, Go, Ruby, tsc and pyflakes, for the tests of
    /// languages. The first call on a machine builds it, which takes two minutes. Other
    /// callers wait.
    ///
    /// # Errors
    /// If Debian's packages cannot be downloaded, or containerd refuses the image.
    pub fn load_languages(&self) -> Result<()> {
        let progress = Progress::new(self.options.progress);
        let archive = images::languages(&progress)?;
        let _lock = Lock::take(&self.layout.root)?;
        let (ctr, socket) = (self.parts.ctr(), self.layout.containerd_socket());
        if images::has(&ctr, &socket, LANGUAGES_IMAGE)? {
            return Ok(());
        }
        let task = progress.task("unpacking the image of languages");
        images::import(&ctr, &socket, &archive)?;
        task.done();
        Ok(())
    }

    /// A command that runs `kubectl` against this cluster.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.layout.bin().join("kubectl"));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Removes the cluster and everything that it created.
    pub fn down(&self) -> Result<()> {
        Self::take_down(&self.options)
    }

    /// Like [`Cluster::down`], without attaching first. If there is no cluster, does nothing.
    pub fn take_down(options: &Options) -> Result<()> {
        let root = options.root()?;
        if !root.exists() && Slot::held_by(&root).is_none() {
            return Ok(());
        }
        host::check()?;
        let lock = Lock::take(&root)?;
        teardown::down(&root)?;
        lock.remove()
    }

    fn supervisor(&self) -> Result<Supervisor> {
        let (log, record) = (
            self.layout.log("supervise"),
            self.layout.record("supervise"),
        );
        Supervisor::start(
            &self.parts.supervise(),
            &self.layout.supervisor_socket(),
            &log,
            &record,
        )
    }

    fn start_all(&self) -> Result<()> {
        self.make_ground()?;
        let api = Api::new(&self.layout, self.slot)?;
        let (first, rest): (Vec<_>, Vec<_>) = Component::ALL
            .into_iter()
            .partition(|one| one.starts_first());
        for component in &first {
            self.start(*component)?;
        }
        self.wait(START_TIMEOUT, &first, Api::is_ready)?;
        api.add_storage_class()?;
        for component in rest {
            self.start(component)?;
        }
        self.wait(START_TIMEOUT, &Component::ALL, Api::takes_pods)
    }

    /// Creates everything that must exist before the first process starts.
    fn make_ground(&self) -> Result<()> {
        for directory in self.layout.directories() {
            fs::create_dir_all(&directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        images::copy(&self.parts.image_store, &self.layout.data("containerd"))?;
        pki::make(&self.layout, self.slot)?;
        config::write(&self.layout, self.slot, self.options.profile, &self.parts)?;
        let kubectl = self.layout.bin().join("kubectl");
        shell::ignore_missing(fs::remove_file(&kubectl))?;
        std::os::unix::fs::symlink(&self.parts.kubernetes, kubectl)?;
        self.slot.connect()?;
        cgroup::create(&self.slot.name())?;
        mounts::share(&self.layout.data("kubelet"), &self.layout.kubelet())
    }

    fn wait(
        &self,
        limit: Duration,
        needed: &[Component],
        enough: impl Fn(&Api) -> bool,
    ) -> Result<()> {
        let api = Api::new(&self.layout, self.slot)?;
        let deadline = Instant::now() + limit;
        while !enough(&api) {
            if let Some(ended) = needed
                .iter()
                .find(|component| !self.is_running(**component))
            {
                bail!(
                    "{} has ended; its last lines:\n{}",
                    ended.name(),
                    self.last_lines(*ended)
                );
            }
            if Instant::now() > deadline {
                let suspect = if api.is_ready() {
                    Component::Kubelet
                } else {
                    Component::KubeApiserver
                };
                let lines = self.last_lines(suspect);
                bail!(
                    "not up after {} s; the last lines of {}:\n{lines}",
                    limit.as_secs(),
                    suspect.name()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn last_lines(&self, component: Component) -> String {
        let log = fs::read(self.layout.log(component.name())).unwrap_or_default();
        shell::last_lines(&String::from_utf8_lossy(&log), 20)
    }
}
