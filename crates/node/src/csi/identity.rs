//! The driver's name and version: the CSI service Identity, and the kubelet's registration
//! service.

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

/// The implementation of both services.
#[derive(Clone)]
pub(super) struct Identity {
    pub driver: String,
    /// Path of the socket with the services Identity and Node.
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

    /// Returns none. Volumes are static, so there is no controller service.
    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse::default()))
    }

    /// The driver is ready as soon as it listens.
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

    /// Only logs the result. After a failure the kubelet tries again.
    async fn notify_registration_status(
        &self,
        status: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus {
            plugin_registered,
            error,
        } = status.into_inner();
        if plugin_registered {
            tracing::info!(driver = self.driver, "the kubelet knows the driver");
        } else {
            tracing::error!(
                driver = self.driver,
                error,
                "the kubelet refuses the driver"
            );
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
