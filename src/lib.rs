//! Hutch runs code-execution sandboxes on Kubernetes.

pub mod crd;
pub mod domain;
