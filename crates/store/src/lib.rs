//! Implements the interfaces of `hutch_core` with Kubernetes objects. The facade uses
//! all of them but `projects`, which serves the projector.
//!
//! Where to start reading:
//!
//! - `sandboxes`, `sessions`, `attached_pods`: objects read from a cache, and the
//!   facade's writes to them.
//! - `projects`: the sandboxes of projects, for the projector in `hutch_db`.
//! - `exposures`: the Service and the Ingress of a sandbox.
//! - `s3_secrets`: the Secrets with the S3 credentials of live mounts.
//! - `access`: authentication. It asks `api_keys` (a Secret), then `tokens` (reviews
//!   by the API server, cached in `ttl_cache`).
//! - `error`: from the errors of `hutch_kube::apply` to those of the interfaces.
//!
//! *Invariants:* Writes go through `hutch_kube` (`apply`, `events`); only the reviews of
//! tokens use the client directly. A store serves one namespace and returns objects of
//! no other.

pub mod access;
pub mod api_keys;
pub mod attached_pods;
mod error;
pub mod exposures;
pub mod projects;
pub mod s3_secrets;
pub mod sandboxes;
pub mod sessions;
pub mod tokens;
mod ttl_cache;
