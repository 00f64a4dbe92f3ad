//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::settings::{Common, Controller, Facade, KeyRing};
use hutch_core::access::{Limits, Scope, is_namespace, is_tenant};

/// Code-execution sandboxes on your own Kubernetes.
///
/// Hutch creates a pod with a workspace for each Sandbox resource. Programs that know nothing
/// about Kubernetes use sandboxes over REST. Hutch uses the cluster that KUBECONFIG names, or
/// the cluster in which it runs.
#[derive(Debug, Parser)]
#[command(name = "hutch", version, propagate_version = true)]
pub struct Cli {
    /// The role or the tool to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The roles and the tools of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers and the REST facade in one process.
    Run(Run),
    /// Run only the controllers.
    Controller(RunController),
    /// Run only the REST facade.
    Facade(RunFacade),
    /// Create, list and revoke the API keys of the REST facade.
    Keys(Keys),
    /// Print the custom resource definitions: hutch crds | kubectl apply --server-side -f -
    Crds(Crds),
}

/// Arguments of `hutch crds`.
#[derive(Debug, clap::Args)]
pub struct Crds {
    /// Write them to this directory, one file for each, instead of printing them.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) write: Option<PathBuf>,
    /// Print a reference of their fields in Markdown instead.
    #[arg(long, conflicts_with = "write")]
    pub(crate) reference: bool,
    /// Print the table of the reasons of conditions and events in Markdown instead.
    #[arg(long, conflicts_with_all = ["write", "reference"])]
    pub(crate) reasons: bool,
}

/// Arguments of `hutch run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) controller: Controller,
    #[command(flatten)]
    pub(crate) facade: Facade,
}

/// Arguments of `hutch controller`.
#[derive(Debug, clap::Args)]
pub struct RunController {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) controller: Controller,
}

/// Arguments of `hutch facade`.
#[derive(Debug, clap::Args)]
pub struct RunFacade {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) facade: Facade,
}

/// Arguments of `hutch keys`.
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(flatten)]
    pub(crate) ring: KeyRing,
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// The subcommands of `hutch keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it. It cannot be shown again.
    ///
    /// Only the key is written to standard output: KEY=$(hutch keys create …). It works at
    /// once. A tenant has at most two keys. To rotate, create the second, give it to the
    /// tenant, then revoke the first.
    Create(CreateKey),
    /// List all keys by their IDs.
    List,
    /// Revoke a key. The facade rejects it within a second.
    Revoke(RevokeKey),
}

/// Arguments of `hutch keys create`.
#[derive(Debug, clap::Args)]
pub struct CreateKey {
    /// Name of the tenant, as it appears in logs.
    #[arg(value_parser = tenant)]
    pub(crate) tenant: String,
    /// Namespace of the tenant's sandboxes. It must not be another tenant's.
    #[arg(long, value_parser = namespace)]
    pub(crate) namespace: String,
    /// APIs that the key may use. Projects exist only in the facade's own namespace.
    #[arg(
        long = "scope",
        value_enum,
        value_delimiter = ',',
        default_value = "tenant"
    )]
    pub(crate) scopes: Vec<Scope>,
    /// Most requests per second.
    #[arg(long, default_value_t = Limits::default().rate, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Most requests at the same time.
    #[arg(long, default_value_t = Limits::default().concurrency, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
}

/// Arguments of `hutch keys revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeKey {
    /// ID of the key: the part between `hutch_` and the second underscore.
    pub(crate) id: String,
}

fn tenant(text: &str) -> Result<String, String> {
    let fits = is_tenant(text).then(|| text.to_owned());
    fits.ok_or_else(|| "at most 63 letters, digits, dots, underscores and dashes".to_owned())
}

fn namespace(text: &str) -> Result<String, String> {
    let fits = is_namespace(text).then(|| text.to_owned());
    fits.ok_or_else(|| "not a valid name of a namespace".to_owned())
}
