//! `make up`: starts a cluster if there is none, starts Hutch, and runs a first command.
//!
//! Modules: `place` is the cluster (the test cluster, or the one that HUTCH_KUBECONFIG
//! names). `identity` writes the kubeconfigs of Hutch's ServiceAccounts. `background`
//! starts and stops a process of Hutch; `operator` and `node` are the two processes.
//! `first` is the first sandbox. Every step is idempotent.

mod background;
mod first;
mod identity;
mod node;
mod operator;
mod place;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::{Cluster, Options, Profile};

use operator::Operator;
use place::Place;

/// Namespace of Hutch itself; `config/rbac` creates it.
const SYSTEM: &str = "hutch-system";
/// Namespace of the sandboxes; `config/rbac` lets the facade work there.
const SANDBOXES: &str = "default";

/// The inputs of a quick start.
#[derive(Clone, Debug)]
pub struct Quickstart {
    /// The test cluster. Not used if HUTCH_KUBECONFIG names another cluster.
    pub options: Options,
    /// The `hutch` binary.
    pub hutch: PathBuf,
    /// The `hutch-node` binary.
    pub node: PathBuf,
    /// The static `hutch-agent` binary.
    pub agent: PathBuf,
    /// The directory with `crds/` and `config/`.
    pub sources: PathBuf,
}

/// The result of a quick start.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// True if the cluster is the test cluster, false if it is the one of HUTCH_KUBECONFIG.
    pub own_cluster: bool,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// A directory with `kubectl`, if there is no `kubectl` on PATH.
    pub kubectl_directory: Option<PathBuf>,
    /// URL of the REST facade.
    pub url: String,
    /// Hutch's log.
    pub log: PathBuf,
    /// True if Hutch was already running with the same settings and was kept.
    pub reused: bool,
    /// The log of `hutch-node`, if it was started.
    pub node_log: Option<PathBuf>,
    /// The first sandbox's ID.
    pub sandbox: &'static str,
    /// The command that ran in it.
    pub command: &'static str,
    /// Its standard output.
    pub answer: String,
}

impl Quickstart {
    /// Uses the binaries beside the running one, and the workspace around the current
    /// directory.
    ///
    /// # Errors
    /// If the path of the running binary is unknown.
    pub fn here(options: Options) -> Result<Self> {
        let own = std::env::current_exe().context("the running program has no path")?;
        let profile = own.parent().unwrap_or(Path::new("."));
        let target = profile.parent().unwrap_or(Path::new("."));
        Ok(Self {
            options,
            hutch: profile.join("hutch"),
            node: profile.join("hutch-node"),
            agent: target.join("agent/hutch-agent"),
            sources: crate::options::workspace(),
        })
    }

    /// Starts everything that does not run yet, and runs a command in the first sandbox.
    ///
    /// # Errors
    /// Names the step that failed, the reason, and where to look.
    pub fn up(&self) -> Result<Outcome> {
        self.check()?;
        let progress = Progress::new(self.options.progress);
        let place = Place::find(&self.options, &progress).context("the cluster")?;
        let image = place
            .agent_image(&self.agent)
            .context("the agent's image")?;
        let task = progress.task("CRDs and RBAC");
        self.apply(&place)
            .context("applying crds and config/rbac")?;
        let kubeconfig = identity::kubeconfig(&place, "hutch").context("Hutch's own identity")?;
        task.done();
        let task = progress.task("Hutch");
        let operator = Operator::ensure(self, &place, &image, &kubeconfig, &progress)
            .context("starting Hutch")?;
        operator.0.wait_until_ready().context("starting Hutch")?;
        task.done();
        let task = progress.task("hutch-node");
        let node = node::ensure(self, &place, &progress).context("starting hutch-node")?;
        task.done();
        let task = progress.task("the first sandbox");
        let answer = first::ask(&operator, &task).with_context(|| {
            format!(
                "the first sandbox; look at `kubectl --kubeconfig {} describe sbx` and {}:\n{}",
                place.kubeconfig.display(),
                operator.0.log.display(),
                operator.0.last_lines()
            )
        })?;
        task.done();
        Ok(Outcome {
            own_cluster: place.cluster.is_some(),
            kubectl_directory: place.kubectl_directory(),
            kubeconfig: place.kubeconfig,
            url: operator.url(),
            log: operator.0.log,
            reused: operator.0.reused,
            node_log: node.map(|node| node.log),
            sandbox: first::ID,
            command: first::COMMAND,
            answer,
        })
    }

    /// Stops Hutch and removes the test cluster. In a cluster of HUTCH_KUBECONFIG the
    /// resources stay. Returns true if Hutch ran for such a cluster.
    ///
    /// # Errors
    /// If a process, a mount or a part of the cluster cannot be removed.
    pub fn down(options: &Options) -> Result<bool> {
        let elsewhere = place::elsewhere(options)?;
        Self::stop(options)?;
        let ran = operator::stop(&elsewhere)?;
        crate::shell::ignore_missing(std::fs::remove_dir_all(&elsewhere))?;
        for profile in [Profile::Older, Profile::Current] {
            Cluster::take_down(&Options {
                profile,
                ..options.clone()
            })?;
        }
        Ok(ran)
    }

    /// Stops Hutch's processes for the test cluster and ends the mounts of buckets. The
    /// cluster keeps running.
    ///
    /// # Errors
    /// If a process or a mount does not end.
    pub fn stop(options: &Options) -> Result<()> {
        let directory = options.root()?;
        operator::stop(&directory)?;
        node::stop(&directory, &Self::here(options.clone())?.node)
    }

    fn check(&self) -> Result<()> {
        let programs = [
            (&self.hutch, "hutch"),
            (&self.node, "hutch-node"),
            (&self.agent, "hutch-agent"),
        ];
        for (file, target) in programs {
            if !file.is_file() {
                bail!(
                    "{target} is not built ({} is missing): use `make up`, which builds it",
                    file.display()
                );
            }
        }
        Ok(())
    }

    fn apply(&self, place: &Place) -> Result<()> {
        let apply = |flag: &str, directory: &str| {
            let mut kubectl = place.kubectl();
            kubectl.args(["apply", "--server-side", "--force-conflicts", flag]);
            crate::shell::run(kubectl.arg(self.sources.join(directory)))
        };
        apply("-f", "crds")?;
        apply("-k", "config/rbac")?;
        let mut wait = place.kubectl();
        wait.args(["wait", "--for=condition=Established", "--timeout=30s", "-f"]);
        crate::shell::run(wait.arg(self.sources.join("crds")))
    }
}
