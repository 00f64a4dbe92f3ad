//! The CSI door: makes buckets the volumes of pods. It serves the kubelet on a
//! socket of its own and makes itself known there, without helper programs: the
//! services Identity and Node of CSI, for static volumes whose shape is that of
//! k8s-csi-s3. By its name in the node's CSINode it is known where Hutch mounts.
//!
//! `calls` checks what is asked, `volume`, `words` and `secrets` read it, `places`
//! does it with the mount core, `heal` makes good what died, in `containers` too.

mod calls;
mod containers;
mod heal;
mod identity;
mod places;
mod secrets;
mod server;
mod socket;
mod volume;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hutch_csi::registration::registration_server::RegistrationServer;
use hutch_csi::v1::identity_server::IdentityServer;
use hutch_csi::v1::node_server::NodeServer;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use super::{Mounts, Refusals};
use calls::Calls;
use hutch_core::turns::Turns;
use identity::Identity;
use places::Places;
use socket::Socket;

/// Start of the paths of the service Identity; others are Node's.
const IDENTITY: &str = "/csi.v1.Identity/";

/// What the door has to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the driver: what CSIDriver and volumes call it.
    pub driver: String,
    /// Name of the node, as Kubernetes knows it.
    pub node: String,
    /// The kubelet's folder, at the kubelet's own path.
    pub kubelet: PathBuf,
    /// Endpoints without TLS may be used.
    pub allow_http: bool,
}

/// Why the door does not open, or closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket cannot be had.
    #[error(
        "the socket {path}: {source}; is the kubelet's folder another (--kubelet-dir), or is no CSI driver wanted (--no-csi)?"
    )]
    Socket {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Csi(Arc<Door>);

struct Door {
    settings: Settings,
    places: Places,
    turns: Turns<String>,
    client: Client,
    refusals: Refusals,
}

impl Csi {
    /// Takes up the volumes among the mounts. Volumes and Secrets are read by
    /// `client`; what could not be mounted is noted in `refusals`.
    pub async fn new(
        settings: Settings,
        mounts: Mounts,
        client: Client,
        refusals: Refusals,
    ) -> Self {
        let places = Places::adopt(mounts, settings.allow_http).await;
        Self(Arc::new(Door {
            settings,
            places,
            turns: Turns::default(),
            client,
            refusals,
        }))
    }

    /// Serves the kubelet and heals what died until `shutdown`: then the driver is
    /// withdrawn, calls under way are answered, and all mounts stay.
    ///
    /// # Errors
    /// When a socket cannot be had.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            served = self.answer(shutdown) => served,
            () = self.0.heal() => Ok(()),
        }
    }

    async fn answer(&self, shutdown: CancellationToken) -> Result<(), Error> {
        let Settings {
            driver, kubelet, ..
        } = &self.0.settings;
        let path = kubelet.join("plugins").join(driver).join("csi.sock");
        let csi = bind(&path).await?;
        // The kubelet gives the path of this one as the authority of its requests,
        // percent-encoded, which `http` refuses anywhere but in front of an `@`.
        let registry = kubelet.join("plugins_registry");
        let registration = bind(&registry.join(format!("{driver}@reg.sock"))).await?;
        tracing::info!(driver, socket = %path.display(), "the kubelet is served");

        let identity = Identity {
            driver: driver.clone(),
            socket: path,
        };
        let calls = NodeServer::new(Calls(self.0.clone()));
        let about = IdentityServer::new(identity.clone());
        let withdrawn = CancellationToken::new();
        let answering = server::serve(&csi, withdrawn.clone(), move |request| {
            let (mut about, mut calls) = (about.clone(), calls.clone());
            async move {
                if request.uri().path().starts_with(IDENTITY) {
                    about.call(request).await
                } else {
                    // It answers UNIMPLEMENTED to what it does not know.
                    calls.call(request).await
                }
            }
        });
        let registering = async {
            let about = RegistrationServer::new(identity);
            server::serve(&registration, shutdown, move |request| {
                about.clone().call(request)
            })
            .await;
            drop(registration);
            withdrawn.cancel();
        };
        tokio::join!(answering, registering);
        drop(csi);
        Ok(())
    }
}

async fn bind(path: &Path) -> Result<Socket, Error> {
    Socket::bind(path).await.map_err(|source| Error::Socket {
        path: path.display().to_string(),
        source,
    })
}
