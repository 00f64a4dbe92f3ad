//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::settings::{Common, Controller, Facade, KeyRing};
use hutch_core::access::{Limits, Scope, is_namespace, is_tenant};

/// Code-execution sandboxes on your own Kubernetes.
///
/// Hutch turns Sandbox resources into pods with a workspace, and lets programs
/// that know nothing of Kubernetes use them over REST. The cluster is the one
/// that KUBECONFIG names, or the one that this runs in.
#[derive(Debug, Parser)]
#[command(name = "hutch", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The roles and the tools of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers and the REST facade in one process.
    Run(Run),
    /// Run the controllers alone.
    Controller(RunController),
    /// Run the REST facade alone.
    Facade(RunFacade),
    /// Make, show and revoke the API keys that the REST facade asks for.
    Keys(Keys),
    /// Print the custom resource definitions: hutch crds | kubectl apply --server-side -f -
    Crds(Crds),
}

/// Where the definitions go.
#[derive(Debug, clap::Args)]
pub struct Crds {
    /// Write them to this folder, a file each, instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) write: Option<PathBuf>,
    /// Print the reference of their fields, in Markdown, instead.
    #[arg(long, conflicts_with = "write")]
    pub(crate) reference: bool,
}

/// Both roles.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) controller: Controller,
    #[command(flatten)]
    pub(crate) facade: Facade,
}

/// The controllers' role.
#[derive(Debug, clap::Args)]
pub struct RunController {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) controller: Controller,
}

/// The facade's role.
#[derive(Debug, clap::Args)]
pub struct RunFacade {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) facade: Facade,
}

/// What to do with keys.
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(flatten)]
    pub(crate) ring: KeyRing,
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it. It cannot be shown again.
    ///
    /// The key alone goes to the standard output: KEY=$(hutch keys create …). It is
    /// good at once. A tenant has at most two: make the second, give it to the
    /// tenant, revoke the first.
    Create(CreateKey),
    /// Show all keys by their ids.
    List,
    /// Take a key back. It is refused within a second.
    Revoke(RevokeKey),
}

/// A key to be made.
#[derive(Debug, clap::Args)]
pub struct CreateKey {
    /// Whose it is; a name of the tenant, as it is to stand in logs.
    #[arg(value_parser = tenant)]
    pub(crate) tenant: String,
    /// Namespace of the tenant's sandboxes, which is no other tenant's.
    #[arg(long, value_parser = namespace)]
    pub(crate) namespace: String,
    /// The contracts that it is good for. Projects are in the facade's own namespace
    /// only.
    #[arg(
        long = "scope",
        value_enum,
        value_delimiter = ',',
        default_value = "tenant"
    )]
    pub(crate) scopes: Vec<Scope>,
    /// Requests a second.
    #[arg(long, default_value_t = Limits::default().rate, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Requests at once.
    #[arg(long, default_value_t = Limits::default().concurrency, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
}

/// A key to be taken back.
#[derive(Debug, clap::Args)]
pub struct RevokeKey {
    /// Its id: what stands between `hutch_` and the second underscore.
    pub(crate) id: String,
}

fn tenant(text: &str) -> Result<String, String> {
    let fits = is_tenant(text).then(|| text.to_owned());
    fits.ok_or_else(|| "at most 63 letters, digits, dots, underscores and dashes".to_owned())
}

fn namespace(text: &str) -> Result<String, String> {
    let fits = is_namespace(text).then(|| text.to_owned());
    fits.ok_or_else(|| "that is no name of a namespace".to_owned())
}
