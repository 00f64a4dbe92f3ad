//! Who the driver is: the service Identity of CSI, and the kubelet's
//! registration, which asks for the same in its own words.

use std::path::PathBuf;

use hutch_csi::registration::registration_server::Registration;
use hutch_csi::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use hutch_csi::v1::identity_server;
use hutch_csi::v1::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
    GetPluginInfoResponse, ProbeRequest, ProbeResponse,
};
use tonic::{Request, Response, Status};

/// The driver, as it introduces itself.
#[derive(Clone)]
pub(super) struct Identity {
    /// The driver's name.
    pub driver: String,
    /// The socket of its services.
    pub socket: PathBuf,
}

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: self.driver.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        }))
    }

    /// None: volumes are static, so there is no controller service.
    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse::default()))
    }

    /// It is ready as soon as it can be asked.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}

#[tonic::async_trait]
impl Registration for Identity {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.driver.clone(),
            endpoint: self.socket.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    /// Where it failed, the kubelet tries again by itself.
    async fn notify_registration_status(
        &self,
        status: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus {
            plugin_registered,
            error,
        } = status.into_inner();
        match plugin_registered {
            true => tracing::info!(driver = self.driver, "the kubelet knows the driver"),
            false => tracing::error!(
                driver = self.driver,
                error,
                "the kubelet refuses the driver"
            ),
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
