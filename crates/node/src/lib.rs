//! `hutch-node`: the mounts of the sandboxes of one node, and what leads to them.
//!
//! Reading map: `source` (what is mounted) → `mounter` and `s3fs` (the program
//! that does it) → `errand` (the steps that a process of one thread has to take,
//! as namespaces belong to threads) → `mounts` (the core: one verified mounter
//! per id, attached to places) → `container` (where a sandbox is on this node) →
//! `live` (the door through which buckets come into running sandboxes) and `csi`
//! (the one through which they become volumes of pods).
//! Keys of buckets are in this process, in a pipe to an errand and in a file
//! that nobody else sees and that is gone when the mount is verified.

mod cgroup;
pub mod container;
pub mod csi;
mod endpoint;
pub mod errand;
mod error;
pub mod live;
mod mounter;
mod mountinfo;
pub mod mounts;
mod options;
mod process;
mod refusals;
pub mod role;
mod s3fs;
mod settings;
mod source;
mod volume;

pub use error::Error;
pub use mounts::{Health, Mounts, Place, Settings};
pub use process::Process;
use refusals::Refusal;
pub use refusals::Refusals;
pub use settings::NodeSettings;
pub use source::{Owner, Source};
