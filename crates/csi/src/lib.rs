//! The protocol between the kubelet and a storage driver: the services Identity and
//! Node of the Container Storage Interface (CSI) and the kubelet's plugin registration.
//! It is generated from `proto/` and has only messages and server traits. The messages
//! have no `Debug`, because some carry secrets.

/// The Container Storage Interface, version 1.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("csi.v1");
}

/// The kubelet's plugin registration.
#[allow(missing_docs, clippy::all)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
