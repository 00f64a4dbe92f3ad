//! The running tasks of one sandbox: at most one per mount.

use std::collections::HashMap;

use tokio::task::{AbortHandle, JoinSet};

use super::attempt::EntryKey;
use super::id::MountId;
use super::mount::Failure;
use super::status::BucketFailure;
use crate::Error;

/// The tasks. A drop aborts them.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<TaskResult>,
    running: HashMap<MountId, Running>,
}

struct Running {
    purpose: Purpose,
    handle: AbortHandle,
}

/// The purpose of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To mount this entry, or to replace its credentials.
    Mount(EntryKey),
    Unmount,
}

/// The result of a task.
pub enum TaskResult {
    /// An attempt to mount a bucket.
    Attempted(Result<(), Failure>),
    /// A check of a mounted bucket's Secret, with the reason why its credentials are not used.
    Rekeyed(Option<BucketFailure>),
    /// An attempt to unmount.
    Unmounted(Result<(), Error>),
}

/// A task that has ended.
pub struct Finished {
    pub id: MountId,
    pub purpose: Purpose,
    pub result: TaskResult,
}

impl Tasks {
    /// Starts a task, unless one with the same purpose is running for the mount. A task with
    /// another purpose is aborted, and its work may remain half done.
    pub fn start(
        &mut self,
        id: MountId,
        purpose: Purpose,
        task: impl Future<Output = TaskResult> + Send + 'static,
    ) {
        match self.running.get(&id) {
            Some(running) if running.purpose == purpose => return,
            Some(running) => running.handle.abort(),
            None => {}
        }
        let handle = self.set.spawn(task);
        self.running.insert(id, Running { purpose, handle });
    }

    /// Aborts the attempt to mount, if one is running.
    pub fn abort_mount(&mut self, id: &MountId) {
        if !self.is_unmounting(id)
            && let Some(running) = self.running.remove(id)
        {
            running.handle.abort();
        }
    }

    /// Aborts all tasks.
    pub fn abort_all(&mut self) {
        self.set.abort_all();
        self.running.clear();
    }

    /// True if the mount is being unmounted.
    pub fn is_unmounting(&self, id: &MountId) -> bool {
        let running = self.running.get(id);
        running.is_some_and(|running| running.purpose == Purpose::Unmount)
    }

    /// The mounts that are being unmounted.
    pub fn unmounting(&self) -> impl Iterator<Item = &MountId> {
        let unmounts = |running: &Running| running.purpose == Purpose::Unmount;
        let all = self.running.iter();
        all.filter(move |(_, running)| unmounts(running))
            .map(|(id, _)| id)
    }

    /// Waits for the end of a task. `Some(None)` is the end of a task that was aborted.
    /// `None` means that no task is running.
    pub async fn join_next(&mut self) -> Option<Option<Finished>> {
        let joined = self.set.join_next_with_id().await?;
        let task = match &joined {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let mut running = self.running.iter();
        let found = running.find(|(_, running)| running.handle.id() == task);
        let Some(id) = found.map(|(id, _)| id.clone()) else {
            return Some(None);
        };
        let ended = self.running.remove(&id);
        let finished = ended.zip(joined.ok());
        Some(finished.map(|(running, (_, result))| Finished {
            id,
            purpose: running.purpose,
            result,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::id::ObjectKey;

    fn id() -> MountId {
        MountId {
            key: ObjectKey::new("n", "s"),
            uid: "u".into(),
            bucket: "b".into(),
        }
    }

    fn mount(digest: &str) -> Purpose {
        Purpose::Mount(EntryKey {
            digest: digest.into(),
            container: "c".into(),
        })
    }

    async fn mounted() -> TaskResult {
        TaskResult::Attempted(Ok(()))
    }

    async fn purposes(tasks: &mut Tasks) -> Vec<Purpose> {
        let mut all = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            all.extend(ended.map(|finished| finished.purpose));
        }
        all
    }

    #[tokio::test]
    async fn a_second_task_with_the_same_purpose_is_not_started() {
        let mut tasks = Tasks::default();
        tasks.start(id(), mount("a"), mounted());
        tasks.start(id(), mount("a"), std::future::pending());
        assert_eq!(purposes(&mut tasks).await, [mount("a")]);
    }

    #[tokio::test]
    async fn a_task_for_a_former_entry_is_aborted_and_its_result_is_dropped() {
        let mut tasks = Tasks::default();
        tasks.start(id(), mount("a"), std::future::pending());
        tasks.start(id(), mount("b"), mounted());
        assert_eq!(purposes(&mut tasks).await, [mount("b")]);
        tasks.start(id(), mount("a"), mounted());
        tasks.abort_mount(&id());
        assert!(purposes(&mut tasks).await.is_empty());
    }

    #[tokio::test]
    async fn an_unmount_is_visible_until_it_ends_and_is_not_aborted_as_a_mount() {
        let mut tasks = Tasks::default();
        tasks.start(id(), Purpose::Unmount, async {
            TaskResult::Unmounted(Ok(()))
        });
        tasks.abort_mount(&id());
        assert!(tasks.is_unmounting(&id()));
        assert_eq!(tasks.unmounting().count(), 1);
        assert_eq!(purposes(&mut tasks).await, [Purpose::Unmount]);
        assert!(!tasks.is_unmounting(&id()));
    }
}
