//! Steps of tests of buckets: change the buckets of a sandbox, wait for their status, and
//! use them from inside.

use hutch_api::{Bucket, BucketPhase, BucketStatus, Sandbox, SandboxSpec, SecurityProfile};
use hutch_core::buckets;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::World;
use super::world::eventually;

impl World {
    /// Creates a Sandbox with these buckets.
    pub async fn with_buckets(&self, name: &str, buckets: &[Bucket]) -> Sandbox {
        let spec = SandboxSpec {
            buckets: buckets.to_vec(),
            security_profile: Some(SecurityProfile::Root),
            ..Default::default()
        };
        self.create(name, spec).await
    }

    /// Replaces the buckets of the sandbox.
    pub async fn set_buckets(&self, name: &str, buckets: &[Bucket]) {
        self.patch(name, json!({"spec": {"buckets": buckets}}))
            .await;
    }

    /// Returns the status of a bucket for the current spec and the current container, once
    /// it is as `wanted`.
    pub async fn bucket(
        &self,
        name: &str,
        bucket: &str,
        wanted: impl Fn(&BucketStatus) -> bool,
    ) -> BucketStatus {
        let what = format!("bucket {bucket} of {name} as wanted");
        eventually(&what, async || {
            let sandbox = self.sandboxes().get(name).await.unwrap();
            let pod = self.pods().get_opt(name).await.unwrap()?;
            let entry = sandbox
                .spec
                .buckets
                .iter()
                .find(|entry| entry.name == bucket)?;
            let known = buckets::current_status(&sandbox, entry, buckets::container_id(&pod));
            known.filter(|status| wanted(status)).cloned()
        })
        .await
    }

    /// Waits until the bucket is mounted and answers.
    pub async fn mounted(&self, name: &str, bucket: &str) -> BucketStatus {
        self.bucket(name, bucket, |status| status.phase == BucketPhase::Mounted)
            .await
    }

    /// Waits until the bucket has failed for that reason.
    pub async fn not_mounted(&self, name: &str, bucket: &str, reason: &str) -> BucketStatus {
        let wanted = |status: &BucketStatus| status.reason.as_deref() == Some(reason);
        self.bucket(name, bucket, wanted).await
    }

    /// Waits until the bucket has no status any more.
    pub async fn forgotten(&self, name: &str, bucket: &str) {
        self.sandbox(name, |sandbox| {
            let mut entries = sandbox.status.iter().flat_map(|status| &status.buckets);
            entries.all(|entry| entry.name != bucket)
        })
        .await;
    }

    /// Waits until the sandbox's container runs, and returns its ID.
    pub async fn running(&self, name: &str) -> String {
        let what = format!("{name} runs");
        let pod: Pod = eventually(&what, async || {
            let pod = self.pods().get_opt(name).await.unwrap()?;
            buckets::container_id(&pod).is_some().then_some(pod)
        })
        .await;
        buckets::container_id(&pod).unwrap().to_owned()
    }

    /// Runs a script in the sandbox, and returns its output.
    pub fn inside(&self, name: &str, script: &str) -> Result<String, String> {
        let arguments = ["exec", name, "-c", "sandbox", "--", "sh", "-c", script];
        let output = self.kubectl(&arguments, "")?;
        Ok(output.trim_end().to_owned())
    }
}
