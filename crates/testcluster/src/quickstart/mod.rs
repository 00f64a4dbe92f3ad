//! `make up`: from a cluster, or none, to a Hutch that has answered a command.
//!
//! Reading map: `place` is the cluster (ours, or the one that HUTCH_KUBECONFIG
//! names), `identity` the ServiceAccounts that Hutch acts as, `background` a process
//! of Hutch's, `operator` and `node` the two that there are, `first` the first
//! sandbox. Every step can be repeated: what is there already is kept.

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

/// Namespace of Hutch itself; `config/rbac` makes it.
const SYSTEM: &str = "hutch-system";
/// Namespace of the sandboxes; `config/rbac` lets the facade work there.
const SANDBOXES: &str = "default";

/// What a quick start is made of.
#[derive(Clone, Debug)]
pub struct Quickstart {
    /// The test cluster, where none is given by HUTCH_KUBECONFIG.
    pub options: Options,
    /// The `hutch` binary.
    pub hutch: PathBuf,
    /// The static `hutch-agent` binary.
    pub agent: PathBuf,
    /// The folder with `crds/` and `config/`.
    pub sources: PathBuf,
}

/// What there is after a quick start.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the cluster is ours.
    pub own_cluster: bool,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// A folder with `kubectl` in it, where PATH has none.
    pub kubectl_folder: Option<PathBuf>,
    /// Where the REST facade is.
    pub url: String,
    /// Hutch's log.
    pub log: PathBuf,
    /// Whether Hutch was running already, as it is now.
    pub reused: bool,
    /// The log of `hutch node`, where it was started.
    pub node_log: Option<PathBuf>,
    /// Id of the first sandbox.
    pub sandbox: &'static str,
    /// The command that was run in it.
    pub command: &'static str,
    /// What it printed.
    pub answer: String,
}

impl Quickstart {
    /// Over the binaries beside the running one, and the workspace around the
    /// current folder.
    ///
    /// # Errors
    /// When the running binary's place cannot be told.
    pub fn here(options: Options) -> Result<Self> {
        let own = std::env::current_exe().context("the running program has no path")?;
        let profile = own.parent().unwrap_or(Path::new("."));
        let target = profile.parent().unwrap_or(Path::new("."));
        Ok(Self {
            options,
            hutch: profile.join("hutch"),
            agent: target.join("agent/hutch-agent"),
            sources: crate::options::workspace(),
        })
    }

    /// Brings everything up, or back, and asks the first sandbox.
    ///
    /// # Errors
    /// With the step that failed, why, and what to look at.
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
        let task = progress.task("hutch node");
        let node = node::ensure(self, &place, &progress).context("starting hutch node")?;
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
            kubectl_folder: place.kubectl_folder(),
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

    /// Stops Hutch and takes our cluster down. In a cluster that is not ours the
    /// resources stay; returns whether Hutch ran in one.
    ///
    /// # Errors
    /// When something does not end.
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

    /// Stops what runs of Hutch in our own cluster, which stays, and ends the mounts
    /// of buckets.
    ///
    /// # Errors
    /// When something does not end.
    pub fn stop(options: &Options) -> Result<()> {
        let folder = options.root()?;
        operator::stop(&folder)?;
        node::stop(&folder, &Self::here(options.clone())?.hutch)
    }

    fn check(&self) -> Result<()> {
        for (file, target) in [(&self.hutch, "hutch"), (&self.agent, "hutch-agent")] {
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
        let apply = |flag: &str, folder: &str| {
            let mut kubectl = place.kubectl();
            kubectl.args(["apply", "--server-side", "--force-conflicts", flag]);
            crate::shell::run(kubectl.arg(self.sources.join(folder)))
        };
        apply("-f", "crds")?;
        apply("-k", "config/rbac")?;
        let mut wait = place.kubectl();
        wait.args(["wait", "--for=condition=Established", "--timeout=30s", "-f"]);
        crate::shell::run(wait.arg(self.sources.join("crds")))
    }
}
