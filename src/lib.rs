//! Hutch runs code-execution sandboxes on Kubernetes.

pub mod cluster;
pub mod controllers;
pub mod crd;
pub mod domain;
pub mod http;
pub mod link;
pub mod service;
