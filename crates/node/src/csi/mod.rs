//! The CSI driver: makes buckets volumes of pods. It serves the CSI services Identity and
//! Node to the kubelet on a unix socket and registers itself there, without sidecar
//! programs. Volumes are static and have the format of k8s-csi-s3. The controllers find the
//! nodes that can mount by the driver's name in the CSINode objects.
//!
//! | module | contents |
//! | --- | --- |
//! | `node_service` | validates the kubelet's calls |
//! | `volume`, `flags`, `secrets` | read a volume's handle, options and Secret |
//! | `error` | the reasons why a volume cannot be mounted |
//! | `publisher` | stages and publishes volumes with the mount core |
//! | `repair`, `containers` | repair volumes whose mounter has died, also in running containers |
//! | `identity` | the driver's name, and its registration with the kubelet |
//! | `server`, `socket` | gRPC over unix sockets |

mod containers;
mod error;
mod flags;
mod identity;
mod node_service;
mod publisher;
mod repair;
mod secrets;
mod server;
mod socket;
mod volume;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hutch_csi::registration::registration_server::RegistrationServer;
use hutch_csi::v1::identity_server::IdentityServer;
use hutch_csi::v1::node_server::NodeServer;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use super::{Mounts, Refusals};
use hutch_core::s3::AllowedEndpoints;
use hutch_core::sync::KeyedMutex;
use identity::Identity;
use node_service::NodeService;
use publisher::Publisher;
use socket::Socket;

/// Prefix of the request paths of the service Identity. Other paths are Node's.
const IDENTITY: &str = "/csi.v1.Identity/";

/// Settings of the driver.
#[derive(Clone, Debug)]
pub struct CsiSettings {
    /// Name of the driver in CSIDriver and PersistentVolume objects.
    pub driver: String,
    /// Kubernetes' name of the node.
    pub node: String,
    /// The kubelet's directory, at the same path as for the kubelet itself.
    pub kubelet: PathBuf,
    /// The endpoints that are allowed.
    pub endpoints: AllowedEndpoints,
}

/// The reason why the driver does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be opened.
    #[error(
        "the socket {path}: {source}; if the kubelet has another directory, set --kubelet-dir; if no CSI driver is needed, set --no-csi"
    )]
    Socket {
        path: String,
        source: std::io::Error,
    },
}

/// The driver. Cheap to clone.
#[derive(Clone)]
pub struct Csi(Arc<Driver>);

struct Driver {
    settings: CsiSettings,
    publisher: Publisher,
    /// One lock per volume handle.
    by_volume: KeyedMutex<String>,
    client: Client,
    refusals: Refusals,
}

impl Csi {
    /// Adopts the volumes among the mounts of an earlier process. It reads volumes and
    /// Secrets with `client` and records failures in `refusals`.
    pub async fn new(
        settings: CsiSettings,
        mounts: Mounts,
        client: Client,
        refusals: Refusals,
    ) -> Self {
        let publisher = Publisher::adopt(mounts, settings.endpoints).await;
        Self(Arc::new(Driver {
            settings,
            publisher,
            by_volume: KeyedMutex::default(),
            client,
            refusals,
        }))
    }

    /// Serves the kubelet and repairs volumes until `shutdown`. Then it removes its
    /// registration and answers the calls in progress. All mounts stay.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        tokio::select! {
            served = self.answer(shutdown) => served,
            () = self.0.run_repairs() => Ok(()),
        }
    }

    async fn answer(&self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let CsiSettings {
            driver, kubelet, ..
        } = &self.0.settings;
        let path = kubelet.join("plugins").join(driver).join("csi.sock");
        let csi = bind(&path).await?;
        // The kubelet sends this socket's path, percent-encoded, as the authority of its
        // requests. The crate `http` accepts percent signs only in front of an `@`, so the
        // name contains one.
        let registry = kubelet.join("plugins_registry");
        let registration = bind(&registry.join(format!("{driver}@reg.sock"))).await?;
        tracing::info!(driver, socket = %path.display(), "the kubelet is served");

        let identity = Identity {
            driver: driver.clone(),
            socket: path,
        };
        let node_service = NodeServer::new(NodeService(self.0.clone()));
        let identity_service = IdentityServer::new(identity.clone());
        let unregistered = CancellationToken::new();
        let answering = server::serve(&csi, unregistered.clone(), move |request| {
            let (mut identity, mut node) = (identity_service.clone(), node_service.clone());
            async move {
                if request.uri().path().starts_with(IDENTITY) {
                    identity.call(request).await
                } else {
                    // It answers unknown paths with UNIMPLEMENTED.
                    node.call(request).await
                }
            }
        });
        let registering = async {
            let service = RegistrationServer::new(identity);
            server::serve(&registration, shutdown, move |request| {
                service.clone().call(request)
            })
            .await;
            drop(registration);
            unregistered.cancel();
        };
        tokio::join!(answering, registering);
        drop(csi);
        Ok(())
    }
}

async fn bind(path: &Path) -> Result<Socket, ServeError> {
    let bound = Socket::bind(path).await;
    bound.map_err(|source| ServeError::Socket {
        path: path.display().to_string(),
        source,
    })
}
