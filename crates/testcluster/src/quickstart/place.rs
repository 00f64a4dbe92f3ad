//! The cluster of a quick start: the test cluster of the state directory, or the one that
//! HUTCH_KUBECONFIG names. If that variable names the test cluster, it is the test cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::{Cluster, Options, build, shell};

/// The name of the agent's image on the test cluster's node.
const IMAGE: &str = "hutch.dev/hutch:dev";

/// A cluster that answered a request.
pub(super) struct Place {
    /// Set if it is the test cluster.
    pub cluster: Option<Cluster>,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The directory of the quick start's files.
    pub directory: PathBuf,
    kubectl: PathBuf,
}

impl Place {
    pub fn find(options: &Options, progress: &Progress) -> Result<Self> {
        let own = options.root()?.join("kubeconfig");
        match std::env::var_os("HUTCH_KUBECONFIG").filter(|path| !path.is_empty()) {
            Some(given) if Path::new(&given) != own => Self::given(given.into(), options, progress),
            _ => Self::own(options),
        }
    }

    fn own(options: &Options) -> Result<Self> {
        let cluster = Cluster::up(options)?;
        Ok(Self {
            kubeconfig: cluster.kubeconfig().to_path_buf(),
            directory: cluster.root().to_path_buf(),
            kubectl: cluster.bin().join("kubectl"),
            cluster: Some(cluster),
        })
    }

    fn given(kubeconfig: PathBuf, options: &Options, progress: &Progress) -> Result<Self> {
        let kubeconfig = std::path::absolute(kubeconfig)?;
        if !kubeconfig.is_file() {
            bail!(
                "HUTCH_KUBECONFIG names {}, which is not a file",
                kubeconfig.display()
            );
        }
        let directory = elsewhere(options)?;
        fs::create_dir_all(directory.join("bin"))?;
        let kubectl = if shell::is_on_path("kubectl") {
            PathBuf::from("kubectl")
        } else {
            let link = directory.join("bin/kubectl");
            shell::ignore_missing(fs::remove_file(&link))?;
            std::os::unix::fs::symlink(build::kubernetes(progress)?, &link)?;
            link
        };
        let place = Self {
            cluster: None,
            kubeconfig,
            directory,
            kubectl,
        };
        let answer = shell::run(place.kubectl().args(["version", "--request-timeout=10s"]));
        answer.with_context(|| {
            format!(
                "the cluster of {} does not answer",
                place.kubeconfig.display()
            )
        })?;
        Ok(place)
    }

    /// A kubectl command with the administrator's rights.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// The directory of the built kubectl, if there is none on PATH.
    pub fn kubectl_directory(&self) -> Option<PathBuf> {
        let directory = self.kubectl.parent().filter(|path| path.is_absolute())?;
        (!shell::is_on_path("kubectl")).then(|| directory.to_path_buf())
    }

    /// The name of an image with this agent that the nodes have or can pull.
    pub fn agent_image(&self, agent: &Path) -> Result<String> {
        if let Some(cluster) = &self.cluster {
            cluster.load_image(IMAGE, &[("/hutch-agent", agent)])?;
            return Ok(IMAGE.to_owned());
        }
        let given = std::env::var("HUTCH_AGENT_IMAGE").unwrap_or_default();
        if given.is_empty() {
            bail!(
                "with HUTCH_KUBECONFIG, HUTCH_AGENT_IMAGE has to name an image that the cluster's \
                 nodes can pull and that has the agent as /hutch-agent. One is made from\n  {}\n\
                 with a Dockerfile of two lines:\n  FROM scratch\n  COPY hutch-agent /hutch-agent",
                agent.display()
            );
        }
        Ok(given)
    }
}

/// The directory of the files of a quick start that uses a cluster of HUTCH_KUBECONFIG.
pub(super) fn elsewhere(options: &Options) -> Result<PathBuf> {
    let root = options.root()?;
    let mut name = root.file_name().unwrap_or_default().to_os_string();
    name.push("-elsewhere");
    Ok(root.with_file_name(name))
}
