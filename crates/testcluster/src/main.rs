//! `testcluster`: the command line of the library. It parses arguments, calls the library
//! and prints.

mod report;
mod run;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use hutch_testcluster::{Cluster, Component, Images, Options, Profile, Quickstart};

/// A real single-node Kubernetes made of processes: no Docker, no registry.
///
/// The first start builds all parts on this machine (about ten minutes on two
/// cores) and caches them in ~/.cache/hutch. Later starts take seconds. It needs
/// Linux, root and Go. `down` removes everything but the cache. Each state
/// directory has its own cluster with its own network. Up to 16 run side by side.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// The state directory [default: $HUTCH_TESTCLUSTER, else target/testcluster of this workspace]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// The container runtime of the node [default: current; `down`: both]
    #[arg(long, global = true, value_enum)]
    profile: Option<Profile>,
    /// Print only errors
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "\
Examples:
  testcluster up                           start it, or restart it
  eval \"$(testcluster env)\"                point kubectl and Hutch at it
  testcluster kubectl get pods -A          kubectl without these variables
  testcluster run -- cargo test            a cluster for one command, removed afterwards
  testcluster image load hutch.dev/hutch:dev --file /hutch-agent=./hutch-agent
  testcluster logs kubelet                 the log of a component
  testcluster down                         remove it";

#[derive(Subcommand)]
enum Task {
    /// Build all parts of a cluster, without starting one
    Build,
    /// Start the cluster, or restart the components that have ended
    Up,
    /// Start a cluster and Hutch, and run a first command in a sandbox: `make up`
    ///
    /// If HUTCH_KUBECONFIG is set, Hutch works on that cluster instead, with the
    /// agent's image that HUTCH_AGENT_IMAGE names. Hutch keeps running in the
    /// background, as its ServiceAccount. It gets every other HUTCH_ variable, and
    /// DATABASE_URL, POSTGRES_*, PGSSLROOTCERT, AWS_*, OTEL_* and RUST_LOG. `hutch-node`
    /// gets its own settings only.
    Quickstart {
        /// Stop Hutch and remove the cluster: `make down`
        #[arg(long)]
        down: bool,
    },
    /// Remove the cluster and everything that it created
    Down,
    /// Print shell commands that point kubectl and Hutch at the cluster
    Env,
    /// Print the log of a component, or the end of all of them
    Logs { component: Option<Component> },
    /// Start a cluster, run a command with HUTCH_KUBECONFIG set, and remove the cluster
    ///
    /// The command's exit code is passed through. If HUTCH_KUBECONFIG is set
    /// already, the command runs with that cluster. A cluster that ran before
    /// keeps running. Other clusters of the state directory are removed.
    Run {
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Images of the node
    #[command(subcommand)]
    Image(ImageTask),
    /// Run kubectl against the cluster
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Start or stop one component
    #[command(subcommand)]
    Component(ComponentTask),
}

#[derive(Subcommand)]
enum ImageTask {
    /// Build the images of Hutch as OCI archives: `make image`
    ///
    /// They contain the programs beside this one, and their tag is the version. If the
    /// cluster runs, they are also loaded into its node.
    Build {
        /// The directory for the archives
        directory: PathBuf,
    },
    /// Build an image that contains only some files and load it into the node
    ///
    /// The first file is the image's command. Pods name the image as it is
    /// named here, with imagePullPolicy IfNotPresent or Never.
    Load {
        /// The image's name, with a tag
        name: String,
        /// Path in the image and file of this machine; repeatable
        #[arg(long = "file", required = true, value_name = "PATH=FILE")]
        files: Vec<String>,
    },
}

#[derive(Subcommand)]
enum ComponentTask {
    /// Start it, if it is not running
    Start { component: Component },
    /// Stop it with SIGTERM
    Stop { component: Component },
    /// End it with SIGKILL
    Kill { component: Component },
}

/// Limit of the operator's image, in MB.
const MAX_OPERATOR_IMAGE_MB: u64 = 40;
type Wrapper = fn(&Images, &str, &Path) -> Result<()>;
const IMAGES: [(&str, Wrapper); 2] = [("hutch", Images::operator), ("hutch-node", Images::node)];

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "testcluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let state = cli.state.unwrap_or_else(Options::default_state);
    let options = Options {
        state,
        profile: cli.profile.unwrap_or_default(),
        progress: !cli.quiet,
    };
    match cli.task {
        Task::Build => Cluster::prepare(&options)?,
        Task::Up => up(&options)?,
        Task::Quickstart { down: false } => report::up(options)?,
        Task::Quickstart { down: true } => report::down(&options)?,
        Task::Down => down(&options, cli.profile)?,
        Task::Env => env(&options)?,
        Task::Logs { component } => logs(&options, component)?,
        Task::Run { command } => return run::run(&options, &command),
        Task::Image(ImageTask::Build { directory }) => images(&options, &directory)?,
        Task::Image(ImageTask::Load { name, files }) => load(&options, &name, &files)?,
        Task::Kubectl { arguments } => kubectl(&options, &arguments)?,
        Task::Component(ComponentTask::Start { component }) => {
            Cluster::attach(&options)?.start(component)?
        }
        Task::Component(ComponentTask::Stop { component }) => {
            Cluster::attach(&options)?.stop(component)?
        }
        Task::Component(ComponentTask::Kill { component }) => {
            Cluster::attach(&options)?.kill(component)?
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(options: &Options) -> Result<()> {
    let cluster = Cluster::up(options)?;
    if options.progress {
        writeln!(
            std::io::stderr(),
            "testcluster: up; KUBECONFIG={}",
            cluster.kubeconfig().display()
        )?;
    }
    Ok(())
}

fn down(options: &Options, only: Option<Profile>) -> Result<()> {
    if only != Some(Profile::Older) {
        Quickstart::stop(options)?;
    }
    let profiles = only.map_or(vec![Profile::Older, Profile::Current], |one| vec![one]);
    profiles.into_iter().try_for_each(|profile| {
        Cluster::take_down(&Options {
            profile,
            ..options.clone()
        })
    })
}

/// The environment variables with which programs find the cluster.
fn variables(cluster: &Cluster, options: &Options) -> Result<Vec<(&'static str, OsString)>> {
    let mut path = cluster.bin().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let kubeconfig = cluster.kubeconfig().as_os_str().to_owned();
    let state = std::path::absolute(&options.state)?;
    let mut all = vec![
        ("KUBECONFIG", kubeconfig.clone()),
        ("HUTCH_KUBECONFIG", kubeconfig),
        ("HUTCH_TESTCLUSTER", state.into_os_string()),
        ("PATH", path),
    ];
    // A proxy cannot reach the cluster's addresses, which exist on this machine only.
    for name in ["NO_PROXY", "no_proxy"] {
        let others = std::env::var(name).ok().filter(|value| !value.is_empty());
        let networks = others.into_iter().chain([cluster.network()]);
        all.push((name, networks.collect::<Vec<_>>().join(",").into()));
    }
    Ok(all)
}

fn env(options: &Options) -> Result<()> {
    let cluster = Cluster::attach(options)?;
    let mut out = std::io::stdout().lock();
    for (name, value) in variables(&cluster, options)? {
        let value = value.to_string_lossy().replace('\'', r"'\''");
        writeln!(out, "export {name}='{value}'")?;
    }
    Ok(())
}

fn logs(options: &Options, component: Option<Component>) -> Result<()> {
    let directory = options.root()?.join("logs");
    let mut out = std::io::stdout().lock();
    if let Some(component) = component {
        let path = directory.join(format!("{}.log", component.name()));
        let mut log =
            std::fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        std::io::copy(&mut log, &mut out)?;
        return Ok(());
    }
    for component in Component::ALL {
        let text =
            std::fs::read(directory.join(format!("{}.log", component.name()))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        writeln!(out, "==> {} ({} lines)", component.name(), lines.len())?;
        for line in &lines[lines.len().saturating_sub(10)..] {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn load(options: &Options, name: &str, files: &[String]) -> Result<()> {
    let mut pairs = Vec::new();
    for file in files {
        let Some((path, from)) = file.split_once('=') else {
            bail!("{file} is not PATH_IN_IMAGE=FILE");
        };
        pairs.push((path, Path::new(from)));
    }
    Cluster::attach(options)?.load_image(name, &pairs)
}

fn images(options: &Options, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("making {}", directory.display()))?;
    let programs = Images::here()?;
    let cluster = Cluster::attach(options).ok();
    for (name, write) in IMAGES {
        let tagged = format!("hutch.dev/{name}:{}", env!("CARGO_PKG_VERSION"));
        let archive = directory.join(format!("{name}.tar"));
        write(&programs, &tagged, &archive)?;
        let size = std::fs::metadata(&archive)?.len() / 1_000_000;
        // The nodes pull it before the first sandbox can start. Only a release is
        // optimised for size.
        if name == "hutch" && !cfg!(debug_assertions) && size >= MAX_OPERATOR_IMAGE_MB {
            bail!("{tagged} has {size} MB; the limit is {MAX_OPERATOR_IMAGE_MB} MB");
        }
        let shown = archive.display();
        let loaded = match &cluster {
            Some(cluster) => cluster.import(&archive).map(|()| ", on the node")?,
            None => "",
        };
        writeln!(std::io::stdout(), "{tagged}  {size} MB  {shown}{loaded}")?;
    }
    Ok(())
}

/// Replaces this process with kubectl.
fn kubectl(options: &Options, arguments: &[OsString]) -> Result<()> {
    let cluster = Cluster::attach(options)?;
    let mut command: Command = cluster.kubectl();
    Err(command.args(arguments).exec()).context("cannot run kubectl")
}
