//! The core's interfaces over Kubernetes objects, for the facade: sandboxes, sessions,
//! attached pods, exposures, the Secrets of buckets, API keys and tokens. `projects`
//! is what the projector sees of sandboxes. It writes by `hutch_kube::apply` alone.

pub mod access;
pub mod api_keys;
pub mod bucket_keys;
mod error;
pub mod exposures;
pub mod guests;
pub mod projects;
mod remembered;
pub mod sandboxes;
pub mod sessions;
pub mod tokens;
