//! The reasons of all conditions, bucket statuses and events, in one vocabulary. The table
//! in `docs/crds.md` is generated from it.

use std::fmt;

/// Declares the variants of [`Reason`], each with the place where it appears and the text
/// of the documentation.
macro_rules! reasons {
    ($($name:ident: $place:literal, $meaning:literal;)+) => {
        /// A reason as users see it. Its text is the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)+
        }

        impl Reason {
            /// All reasons, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The text in conditions, statuses and events.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The condition, status or event that has the reason.
            const fn place(self) -> &'static str {
                match self {
                    $(Self::$name => $place,)+
                }
            }

            /// The meaning of the reason, and the action that a user can take.
            const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)+
                }
            }
        }
    };
}

reasons! {
    Starting: "Sandbox/Ready, phase Pending", "A step of a normal start. Wait.";
    Ready: "Sandbox/Ready, phase Ready", "The sandbox answers commands.";
    Running: "Sandbox/PodReady, Sandbox/AgentReady", "The pod runs; the agent answers.";
    Bound: "Sandbox/WorkspaceReady", "The claim is bound.";
    Ephemeral: "Sandbox/WorkspaceReady", "The workspace is an emptyDir and ends with the pod.";
    Mounted: "Sandbox/BucketsReady", "All buckets are mounted.";
    Provisioning: "Sandbox/Ready, phase Pending", "The claim is not bound yet. If this lasts for minutes, run `kubectl describe pvc`. Check that a default StorageClass, or the one that you named, exists.";
    StartingSlowly: "Sandbox/Ready, phase Pending", "An image pull or a volume attachment has taken more than two minutes. Run `kubectl describe pod`.";
    Unschedulable: "Sandbox/Ready, phase Pending", "No node has room or matches. The message is the scheduler's. Lower the requests, change `nodeSelector` or `tolerations`, or add nodes.";
    QuotaExceeded: "Sandbox/Ready, phase Pending", "A quota of the namespace leaves no room. Hutch retries.";
    WebhookUnavailable: "Sandbox/Ready, phase Pending", "An admission webhook of the cluster does not answer. Hutch retries.";
    PodLost: "Sandbox/Ready, phase Pending; event", "The pod was evicted, or its node is gone. Hutch creates a new one.";
    NodeNotReady: "Sandbox/Ready, phase Pending", "The node does not answer.";
    ImagePullFailed: "Sandbox/Ready, phase Failed", "Correct `image`, or give the node credentials for the registry.";
    OOMKilled: "Sandbox/Ready, phase Failed", "Raise `resources.limits.memory`. The container is restarted meanwhile.";
    AgentExited: "Sandbox/Ready, phase Failed", "Run `kubectl logs POD`. One cause is a workspace that uid 1000 cannot write to (profile Restricted, storage without `fsGroup`).";
    CrashLoop: "Sandbox/Ready, phase Failed", "Run `kubectl logs POD`. One cause is a workspace that uid 1000 cannot write to (profile Restricted, storage without `fsGroup`).";
    ContainerCannotStart: "Sandbox/Ready, phase Failed", "The message is the container runtime's. A file system without idmapped mounts needs another storage class, or the profile Restricted.";
    UserNamespacesUnsupported: "Sandbox/Ready, phase Failed", "No node that could take the pod supports `Root`. Use `Restricted`, or newer nodes.";
    NameConflict: "Sandbox/Ready, phase Failed", "A pod or claim with that name does not belong to Hutch. Hutch does not touch it. Remove it, or rename the sandbox.";
    PodStuck: "Sandbox/Ready, phase Failed", "The node does not confirm that the previous pod has ended. Bring the node back, delete it, or taint it with `node.kubernetes.io/out-of-service`.";
    ClaimTerminating: "Sandbox/Ready, phase Failed", "Somebody deleted the claim. Copy the files that you need, then suspend or delete the sandbox.";
    ClaimLost: "Sandbox/Ready, phase Pending or Failed", "The volume or the claim is gone, and its data with it. If the claim still exists, delete it to start with an empty workspace.";
    AdmissionDenied: "Sandbox/Ready, phase Failed", "An admission rule (for example Pod Security) or the API server rejects the pod or the claim. The message is theirs.";
    Invalid: "Sandbox/Ready, phase Failed", "An admission rule (for example Pod Security) or the API server rejects the pod or the claim. The message is theirs.";
    Forbidden: "Sandbox/Ready, phase Failed", "Hutch lacks a right. Add the namespace to the chart's `tenants`, or apply `config/rbac`.";
    NamespaceTerminating: "Sandbox/Ready, phase Failed", "The namespace is being deleted.";
    ResizeRefused: "Sandbox/WorkspaceReady, phase Ready", "The workspace keeps its size, because the storage class cannot grow volumes.";
    Mounting: "Sandbox/BucketsReady, phase Pending or Degraded", "A mount has taken more than two seconds so far.";
    NoMounter: "Sandbox/BucketsReady, phase Failed or Degraded", "`hutch-node` does not run on the pod's node. Run it on every node, or use profile Restricted with a CSI driver.";
    NoCredentials: "Sandbox/BucketsReady, phase Failed or Degraded", "The bucket's Secret does not exist, lacks a key, or belongs to another sandbox. Hutch retries within 30 s.";
    AccessDenied: "Sandbox/BucketsReady, phase Failed or Degraded", "The S3 service reports this. Correct the keys, the bucket or the region. Hutch retries.";
    NoSuchBucket: "Sandbox/BucketsReady, phase Failed or Degraded", "The S3 service reports this. Correct the keys, the bucket or the region. Hutch retries.";
    EndpointUnreachable: "Sandbox/BucketsReady, phase Pending or Degraded", "The S3 service does not answer, or the node does not trust its certificate. Hutch retries.";
    InsecureEndpoint: "Sandbox/BucketsReady, phase Failed or Degraded", "The endpoint uses `http`. Use `https`, or start Hutch with `--allow-http-buckets`.";
    BadOption: "Sandbox/BucketsReady, phase Failed or Degraded", "An option is not allowed, or the mounter does not know it.";
    PathTaken: "Sandbox/BucketsReady, phase Failed or Degraded", "Something in the container occupies `mountPath`.";
    Busy: "Sandbox `status.buckets[]`", "A process in the sandbox still uses a bucket that is no longer in the spec. End the process.";
    HandleInUse: "Sandbox/BucketsReady, phase Failed", "A volume with the same bucket and prefix is in use with other credentials, in another mode or in another namespace. Use the same values, or another prefix.";
    MounterFailed: "Sandbox/BucketsReady, phase Failed or Degraded", "The message is the mounter's.";
    SpecChanged: "Sandbox/RestartPending; Sandbox/BucketsReady, phase Pending or Degraded", "A field, or a bucket that is a volume of the pod, has changed. The change applies at the pod's next start.";
    Suspended: "Sandbox/Ready, phase Suspended", "`suspended` is set.";
    Asleep: "Sandbox/Ready, phase Suspended", "The sandbox is asleep. The next REST request wakes it.";
    Terminating: "Sandbox/Ready, phase Terminating", "The sandbox is being deleted.";
    Synced: "Sandbox/DatabaseSynced", "`projects.container_name` names the pod while it runs, and is NULL while it does not.";
    SetByOthers: "Sandbox/DatabaseSynced", "The row names another pod that is alive. Somebody else wrote that name. It stays until that pod is gone.";
    ProjectNotFound: "Sandbox/DatabaseSynced", "No row has the project's ID.";
    DatabaseAway: "Sandbox/DatabaseSynced", "The database does not answer. The log says why.";
    DatabaseReadOnly: "Sandbox/DatabaseSynced", "The server accepts no writes. It is a standby, or was demoted.";
    DatabaseForbidden: "Sandbox/DatabaseSynced", "The role lacks a right. See [security.md](security.md#rights-in-the-database).";
    SchemaMismatch: "Sandbox/DatabaseSynced", "A table or column is missing. The message names it.";
    DatabaseBusy: "Sandbox/DatabaseSynced", "Another client has held a lock on the row for more than a second.";
    DatabaseRefused: "Sandbox/DatabaseSynced", "The server rejects the change for another reason, such as a trigger. The message is the server's.";
    Open: "SandboxSession/Ready", "The session exists in the agent.";
    Ended: "SandboxSession/Ready", "A client ended the session. The resource is about to be deleted.";
    SandboxNotReady: "SandboxSession/Ready", "The session opens when the sandbox is Ready.";
    SandboxNotFound: "SandboxSession/Ready", "This namespace has no sandbox of that name.";
    SandboxUnreachable: "SandboxSession/Ready", "The controllers cannot connect to the pod. They retry. If `pods/exec` is forbidden, bind `hutch-controller-exec` in this namespace.";
    Duplicate: "SandboxSession/Ready", "An older resource represents the same session.";
    Refused: "SandboxSession/Ready", "The sandbox cannot hold the session: the image has no shell, there are 1024 sessions, or the disk is full.";
    WorkspaceLost: "Event of Sandbox", "The claim was gone. The workspace starts empty.";
    Restarting: "Event of Sandbox", "The pod is being replaced.";
    Expired: "Event of Sandbox", "The sandbox was deleted because its `lifecycle.ttl` has passed.";
    BucketMounted: "Event of Sandbox", "A bucket that had failed works again.";
}

impl Reason {
    /// The reason with that text, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.as_str().to_owned()
    }
}

impl PartialEq<Reason> for str {
    fn eq(&self, reason: &Reason) -> bool {
        self == reason.as_str()
    }
}

impl PartialEq<Reason> for String {
    fn eq(&self, reason: &Reason) -> bool {
        self == reason.as_str()
    }
}

/// The table of the documentation, in Markdown.
pub fn table() -> String {
    let mut table =
        String::from("| reason | where | meaning and what to do |\n| --- | --- | --- |\n");
    for reason in Reason::ALL {
        let (place, meaning) = (reason.place(), reason.meaning());
        table.push_str(&format!("| `{reason}` | {place} | {meaning} |\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_text_of_its_own_that_reads_back_as_itself() {
        let texts: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(texts.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::parse("no reason\n"), None);
    }

    /// `metav1.Condition` allows this form only.
    #[test]
    fn every_reason_is_a_camel_case_word() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(text.starts_with(|c: char| c.is_ascii_uppercase()), "{text}");
            assert!(text.bytes().all(|c| c.is_ascii_alphanumeric()), "{text}");
        }
    }
}
