//! What the kubelet and a storage driver say to each other: the services
//! Identity and Node of the Container Storage Interface, and the kubelet's
//! registration of plugins. Generated from `proto/`; nothing but messages and
//! the servers' traits. None of the messages can be printed: some carry secrets.

/// The Container Storage Interface, version 1.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("csi.v1");
}

/// How a plugin makes itself known to the kubelet.
#[allow(missing_docs, clippy::all)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
