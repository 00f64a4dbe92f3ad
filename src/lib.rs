//! Hutch runs code-execution sandboxes on Kubernetes.
//!
//! Reading map, from what users write to what happens: `crd` (the resources and
//! every name of ours) → `domain` (the rules, pure) → `cluster` (the API
//! server), `controllers` (Sandbox → claim and pod), `node` (buckets on one node),
//! `link` (the channel to the agents), `db` (the shared database) → `service` (use
//! cases over interfaces) → `http` (the REST contracts). `telemetry` serves all and
//! knows none; `runtime` alone joins them, `main` alone calls it.
//! `tests/architecture.rs` holds the table of who may import whom.

pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod crd;
pub mod db;
pub mod domain;
pub mod http;
pub mod link;
pub mod node;
pub mod runtime;
pub mod service;
pub mod settings;
pub mod telemetry;
