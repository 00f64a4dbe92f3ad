//! Hutch on a real cluster. Each test has a namespace and a Hutch process of its
//! own; `make test` brings the cluster up and takes it down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod access_limits;
mod bucket_endpoints;
mod bucket_mounts;
mod bucket_routes;
mod buckets_csi;
mod buckets_csi_changes;
mod buckets_csi_faults;
mod buckets_csi_sandbox;
mod buckets_declared;
mod buckets_live;
mod buckets_live_faults;
mod buckets_live_refused;
mod buckets_rights;
mod buckets_status;
mod buckets_stuck;
mod chart;
mod chart_admission;
mod chart_clients;
mod chart_reach;
mod chart_rendered;
mod chart_rights;
mod commands;
mod facade;
mod faults;
mod file_bytes;
mod files;
mod golang;
mod hostile;
mod images;
mod keys;
mod leader;
mod lifecycle;
mod node_pod;
mod older;
mod operations;
mod project_attach;
mod project_attach_gone;
mod project_attach_refused;
mod project_backends;
mod project_checkers;
mod project_checkers_together;
mod project_diagnostics;
mod project_execute;
mod project_files;
mod project_hostile;
mod project_languages;
mod project_outages;
mod project_resolution;
mod project_restart;
mod project_routes;
mod project_search;
mod projector;
mod projector_faults;
mod python;
mod quickstart;
mod quiet;
mod routes;
mod samples;
mod sandbox;
mod schema;
mod schema_buckets;
mod session_commands;
mod session_resources;
mod sessions;
mod sleep;
mod tls;
mod tokens;
mod traces;
mod workspace;
