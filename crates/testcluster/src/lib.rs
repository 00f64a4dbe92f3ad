//! A real single-node Kubernetes made of processes.
