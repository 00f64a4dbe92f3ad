//! The service Node of CSI: what the kubelet asks, checked, and its answers, which
//! the events of a pod show. Calls for one volume wait for each other. Each is
//! answered within 15 s; what has begun then goes on to its end, and the kubelet,
//! which asks again, finds it done. The work itself is `places`'.

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
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use super::Door;
use super::places::Publish;
use super::volume::Volume;
use crate::Refusal;
use hutch_core::buckets::reasons;

/// How long a call may take. The kubelet's own limit is two minutes, in which a
/// pod would not say what it waits for. A mount is there or has failed within 10 s,
/// and says why: it has to come first.
const LIMIT: Duration = Duration::from_secs(15);
/// Bytes that a path has at most.
const LONGEST: usize = 4096;

/// The service.
pub(super) struct Calls(pub Arc<Door>);

impl Calls {
    /// Does `step` in the volume's turn.
    async fn answer<T: Send + 'static>(
        &self,
        volume: &str,
        step: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let deadline = Instant::now() + LIMIT;
        let Ok(turn) = timeout_at(deadline, self.0.turns.take(volume.to_owned())).await else {
            return Err(Status::aborted(format!(
                "{volume}: an earlier call has not ended yet; the kubelet tries again"
            )));
        };
        // A task of its own: the kubelet may hang up, and half a step helps nobody.
        let task = tokio::spawn(async move {
            let _turn = turn;
            step.await
        });
        let result = match timeout_at(deadline, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Status::internal(
                "the call ended badly; see hutch node's log",
            )),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "{volume}: not done within {} s; the kubelet tries again",
                LIMIT.as_secs()
            ))),
        };
        if let Err(status) = &result {
            tracing::warn!(volume, code = ?status.code(), "{}", status.message());
        }
        result.map(Response::new)
    }

    /// A path of the kubelet's.
    fn path(&self, field: &str, text: &str) -> Result<PathBuf, Status> {
        inside(&self.0.settings.kubelet, Path::new(text)).map_err(|why| {
            Status::invalid_argument(format!("{field} `{}`: {why}", text.escape_debug()))
        })
    }
}

#[tonic::async_trait]
impl Node for Calls {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let handle = handle(request.volume_id)?;
        let staging = self.path("staging_target_path", &request.staging_target_path)?;
        mountable(request.volume_capability)?;
        let volume = Volume::read(&handle, &request.volume_context)?;
        let (door, secrets) = (self.0.clone(), request.secrets);
        let own = handle.clone();
        self.answer(&handle, async move {
            let staged = door.places.stage(&staging, volume, &secrets).await;
            door.refusals.note(&own, staged.as_ref().err().map(refusal));
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
        let door = self.0.clone();
        self.answer(&handle, async move {
            door.places.unstage(&staging).await?;
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
        let at = Publish {
            staging: self.path("staging_target_path", &request.staging_target_path)?,
            target,
            read_only: request.readonly,
        };
        let volume = Volume::read(&handle, &request.volume_context)?;
        let (door, secrets) = (self.0.clone(), request.secrets);
        let own = handle.clone();
        self.answer(&handle, async move {
            let published = door.places.publish(at, volume, &secrets).await;
            door.refusals
                .note(&own, published.as_ref().err().map(refusal));
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
        let door = self.0.clone();
        self.answer(&handle, async move {
            door.places.unpublish(&target).await?;
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

/// What is noted of a call that failed. Its text may begin with the reason.
fn refusal(status: &Status) -> Refusal {
    let text = status.message();
    let parts = text.split_once(": ");
    let known = parts.filter(|(reason, _)| reasons::named(reason) == *reason);
    let (reason, text) = known.unwrap_or((reasons::MOUNTER_FAILED, text));
    Refusal {
        reason: reason.to_owned(),
        text: text.to_owned(),
        at: Timestamp::now(),
    }
}

/// The volume's handle, which must be there whatever it means.
fn handle(id: String) -> Result<String, Status> {
    match id.is_empty() {
        true => Err(Status::invalid_argument("volume_id is missing")),
        false => Ok(id),
    }
}

/// A bucket is a file system. Its access modes are for information.
fn mountable(capability: Option<VolumeCapability>) -> Result<(), Status> {
    match capability.and_then(|capability| capability.access_type) {
        Some(AccessType::Mount(_)) => Ok(()),
        Some(AccessType::Block(_)) => Err(Status::invalid_argument(
            "volumeMode: a bucket is a file system, no block device",
        )),
        None => Err(Status::invalid_argument("volume_capability is missing")),
    }
}

/// The path, if it is plain, absolute and below that folder.
fn inside(folder: &Path, path: &Path) -> Result<PathBuf, &'static str> {
    let text = path.as_os_str().as_encoded_bytes();
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    // `components` overlooks a `.` in the middle, which is harmless.
    if text.is_empty() {
        Err("it is missing")
    } else if text.len() > LONGEST || text.contains(&0) || !path.components().all(plain) {
        Err("it is no plain path")
    } else if !path.is_absolute() || path == folder || !path.starts_with(folder) {
        Err("it is not below the kubelet's folder (--kubelet-dir)")
    } else {
        Ok(path.components().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_kubelet_are_touched() {
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
        let long = format!("/var/lib/kubelet/{}", "x".repeat(LONGEST));
        assert!(!taken(&long));
    }
}
