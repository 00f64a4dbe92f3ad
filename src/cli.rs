//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::settings::{Api, Common, Controller, Node};

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

/// The roles of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers and the REST facade in one process.
    Run(Run),
    /// Run the controllers alone.
    Controller(RunController),
    /// Run the REST facade alone.
    Api(RunApi),
    /// Mount buckets into the sandboxes of this node; as root, in the host's pid
    /// namespace.
    Node(RunNode),
    /// Print the custom resource definitions: hutch crds | kubectl apply --server-side -f -
    Crds(Crds),
    /// One step of `hutch node` in a process of its own; told on stdin.
    #[command(hide = true)]
    Errand,
}

/// Where the definitions go.
#[derive(Debug, clap::Args)]
pub struct Crds {
    /// Write them to this folder, a file each, instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) write: Option<PathBuf>,
}

/// Both roles.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) controller: Controller,
    #[command(flatten)]
    pub(crate) api: Api,
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
pub struct RunApi {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// The node's role.
#[derive(Debug, clap::Args)]
pub struct RunNode {
    #[command(flatten)]
    pub(crate) node: Node,
}
