//! `hutch-node` mounts the buckets of the sandboxes of one node.
//!
//! Read `docs/one-mount.md` first: it follows one mount from the spec to the container.
//! Then read the modules in this order:
//!
//! | step | modules |
//! | --- | --- |
//! | the process | `settings` (the command line), `role` (builds the parts and joins them) |
//! | the input | `source` (one bucket, its options and its credentials), `endpoint` (addresses that are refused), `options` (the options of `s3fs` that a user may set) |
//! | the mounter | `s3fs` (its command line and its output) |
//! | the kernel calls | `ns_helper` (child processes with one thread, which work in another mount namespace), `mountinfo` (reads the list of mounts), `process` (a process by PID and start time), `cgroup` (a cgroup per mounter) |
//! | the core | `mounts` (one verified mounter per ID, attached to targets), `error` (the reasons for a failure) |
//! | the users of the core | `live` (mounts buckets into running containers), `csi` (the CSI driver, which makes buckets volumes of pods) |
//! | shared by `live` and `csi` | `container` (finds a container on this node), `refusals` (reports a volume's failure in the sandbox's status) |
//!
//! S3 credentials exist in this process, in a pipe to a namespace helper, and in a file
//! that only the mounter sees. The file is removed when the mount is verified.

mod cgroup;
pub mod container;
mod csi;
mod endpoint;
mod error;
mod live;
mod mountinfo;
mod mounts;
pub mod ns_helper;
mod options;
mod process;
mod refusals;
pub mod role;
mod s3fs;
mod settings;
mod source;

use error::Error;
use mounts::{MountSettings, MountTarget, Mounts};
pub use process::Process;
use refusals::{Refusal, Refusals};
pub use settings::NodeSettings;
use source::{Owner, Source};
