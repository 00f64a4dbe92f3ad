//! A real single-node Kubernetes made of processes: etcd, the control plane,
//! kubelet, kube-proxy, containerd, runc and CNI, as root, without Docker.
//!
//! Modules: `cluster` is the interface for callers and starts a cluster. `build` and
//! `images` make its parts and cache them outside the repository. `component` and
//! `config` define the processes and their configuration. `network`, `cgroup` and
//! `mounts` prepare the machine. `teardown` removes everything. `quickstart` is
//! `make up`, which runs Hutch on a cluster. All functions block.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use hutch_testcluster::{Cluster, Options};
//! let cluster = Cluster::up(&Options::default())?;
//! println!("export KUBECONFIG={}", cluster.kubeconfig().display());
//! # Ok(())
//! # }
//! ```

mod api;
mod build;
mod cgroup;
mod cluster;
mod component;
mod config;
mod host;
mod images;
mod layout;
mod lock;
mod mounts;
mod network;
mod options;
mod pki;
pub mod process;
mod progress;
mod quickstart;
mod shell;
mod supervisor;
mod teardown;
pub mod versions;

pub use cluster::Cluster;
pub use component::Component;
pub use images::Images;
pub use options::{Options, Profile};
pub use quickstart::{Outcome, Quickstart};
