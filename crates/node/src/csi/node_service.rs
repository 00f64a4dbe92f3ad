//! The CSI service Node. It validates the kubelet's requests and calls the publisher. The
//! events of a pod show its errors. Calls for one volume run one after another. Each call is
//! answered within 15 s. Work that takes longer continues in the background, and the
//! kubelet's next call finds the result.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hutch_csi::v1::node_server::Node;
use hutch_csi::v1::node_service_capability::{Rpc, Type, rpc};
use hutch_csi::v1::volume_capability::AccessType;
use hutch_csi::v1::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest,
    NodeGetInfoResponse, NodePublishVolumeRequest, NodePublishVolumeResponse,
    NodeServiceCapability, NodeStageVolumeRequest, NodeStageVolumeResponse,
    NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest,
    NodeUnstageVolumeResponse, VolumeCapability,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use super::Driver;
use super::error::VolumeError;
use super::publisher::PublishRequest;
use super::volume::Volume;

/// Timeout of a call. The kubelet's own limit is two minutes, and until then the pod
/// would show no reason. A mount succeeds or fails with a reason within 10 s, so this limit
/// is longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_PATH_BYTES: usize = 4096;

/// The implementation of the service.
pub(super) struct NodeService(pub Arc<Driver>);

impl NodeService {
    /// Runs `step` when earlier calls for the volume have ended.
    async fn answer<T: Send + 'static>(
        &self,
        volume: &str,
        step: impl Future<Output = Result<T, VolumeError>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let Ok(guard) = timeout_at(deadline, self.0.by_volume.lock(volume.to_owned())).await else {
            return Err(Status::aborted(format!(
                "{volume}: an earlier call has not ended yet; the kubelet tries again"
            )));
        };
        // A task of its own, so that the step ends even if the kubelet hangs up.
        let task = tokio::spawn(async move {
            let _guard = guard;
            step.await
        });
        let result = match timeout_at(deadline, task).await {
            Ok(Ok(result)) => result.map_err(Status::from),
            Ok(Err(_)) => Err(Status::internal(
                "the call failed; see the log of hutch-node",
            )),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "{volume}: not done within {} s; the kubelet tries again",
                CALL_TIMEOUT.as_secs()
            ))),
        };
        if let Err(status) = &result {
            tracing::warn!(volume, code = ?status.code(), "{}", status.message());
        }
        result.map(Response::new)
    }

    /// Checks a path in a request.
    fn path(&self, field: &str, text: &str) -> Result<PathBuf, Status> {
        inside(&self.0.settings.kubelet, Path::new(text)).map_err(|why| {
            Status::invalid_argument(format!("{field} `{}`: {why}", text.escape_debug()))
        })
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let handle = handle(request.volume_id)?;
        let staging = self.path("staging_target_path", &request.staging_target_path)?;
        mountable(request.volume_capability)?;
        let volume = Volume::read(&handle, &request.volume_context)?;
        let (driver, secrets) = (self.0.clone(), request.secrets);
        let own = handle.clone();
        self.answer(&handle, async move {
            let staged = driver.publisher.stage(&staging, volume, &secrets).await;
            let refusal = staged.as_ref().err().map(VolumeError::refusal);
            driver.refusals.record(&own, refusal);
            staged.map(|()| NodeStageVolumeResponse {})
        })
        .await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        let handle = handle(request.volume_id)?;
        let staging = self.path("staging_target_path", &request.staging_target_path)?;
        let driver = self.0.clone();
        self.answer(&handle, async move {
            driver.publisher.unstage(&staging).await?;
            Ok(NodeUnstageVolumeResponse {})
        })
        .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let handle = handle(request.volume_id)?;
        let target = self.path("target_path", &request.target_path)?;
        mountable(request.volume_capability)?;
        if request.staging_target_path.is_empty() {
            return Err(Status::failed_precondition(
                "staging_target_path is missing",
            ));
        }
        let publish = PublishRequest {
            staging: self.path("staging_target_path", &request.staging_target_path)?,
            target,
            read_only: request.readonly,
        };
        let volume = Volume::read(&handle, &request.volume_context)?;
        let (driver, secrets) = (self.0.clone(), request.secrets);
        let own = handle.clone();
        self.answer(&handle, async move {
            let published = driver.publisher.publish(publish, volume, &secrets).await;
            let refusal = published.as_ref().err().map(VolumeError::refusal);
            driver.refusals.record(&own, refusal);
            published.map(|()| NodePublishVolumeResponse {})
        })
        .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let handle = handle(request.volume_id)?;
        let target = self.path("target_path", &request.target_path)?;
        let driver = self.0.clone();
        self.answer(&handle, async move {
            driver.publisher.unpublish(&target).await?;
            Ok(NodeUnpublishVolumeResponse {})
        })
        .await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let stage = Rpc {
            r#type: rpc::Type::StageUnstageVolume.into(),
        };
        let stage = NodeServiceCapability {
            r#type: Some(Type::Rpc(stage)),
        };
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: vec![stage],
        }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.0.settings.node.clone(),
            ..Default::default()
        }))
    }
}

/// The volume's handle. Its content is checked later.
fn handle(id: String) -> Result<String, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("volume_id is missing"));
    }
    Ok(id)
}

/// Accepts file system volumes only. Access modes are ignored.
fn mountable(capability: Option<VolumeCapability>) -> Result<(), Status> {
    match capability.and_then(|capability| capability.access_type) {
        Some(AccessType::Mount(_)) => Ok(()),
        Some(AccessType::Block(_)) => Err(Status::invalid_argument(
            "volumeMode: a bucket is a file system, not a block device",
        )),
        None => Err(Status::invalid_argument("volume_capability is missing")),
    }
}

/// Accepts an absolute path below `directory` without `..`, and normalizes it.
fn inside(directory: &Path, path: &Path) -> Result<PathBuf, &'static str> {
    let text = path.as_os_str().as_encoded_bytes();
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    // `components` drops a `.` in the middle, which is harmless.
    if text.is_empty() {
        Err("it is missing")
    } else if text.len() > MAX_PATH_BYTES || text.contains(&0) || !path.components().all(plain) {
        Err("it is not a plain path")
    } else if !path.is_absolute() || path == directory || !path.starts_with(directory) {
        Err("it is not below the kubelet's directory (--kubelet-dir)")
    } else {
        Ok(path.components().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_kubelets_directory_are_accepted() {
        let root = Path::new("/var/lib/kubelet");
        let taken = |path: &str| inside(root, Path::new(path)).is_ok();
        assert!(taken("/var/lib/kubelet/pods/u/volumes/mount"));
        assert!(taken("/var/lib/kubelet/plugins/x/globalmount/"));
        for outside in [
            "",
            "/",
            "/var/lib/kubelet",
            "/var/lib/kubelet/",
            "/var/lib/kubelet2/x",
            "/var/lib/kubelet/../x",
            "/var/lib/kubelet/a/../../../etc",
            "var/lib/kubelet/x",
            "pods/x",
            "/etc",
            "/var/lib/kubelet/a\0b",
        ] {
            assert!(!taken(outside), "{outside}");
        }
        let long = format!("/var/lib/kubelet/{}", "x".repeat(MAX_PATH_BYTES));
        assert!(!taken(&long));
    }
}
