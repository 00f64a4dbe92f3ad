//! Leader election with a `coordination.k8s.io` Lease, and the check before every write.
//!
//! A leader stops `margin` before another replica may take over. So a replica that was frozen
//! and continues writes nothing: the check compares two clocks and needs no task that runs.
//! As in client-go, a replica takes over when the lease has not changed for its duration on
//! the replica's own clock. Clocks of different machines are never compared.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use hutch_core::sync::Lock;

/// This replica must not write: it does not hold the lease, or no longer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this replica is not the leader")]
pub struct NotLeader;

/// The lease, the identity of this replica, and the times.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Identity of this replica. A process that restarts with the same identity takes its
    /// lease back at once. So no two processes may have one identity at the same time: use
    /// the pod's name in a cluster and a random text elsewhere.
    pub identity: String,
    /// Another replica takes over when the lease has not changed for this long; whole
    /// seconds.
    pub duration: Duration,
    /// The leader stops this long before the end of the duration.
    pub margin: Duration,
    /// Time between two renewals or reads of the lease.
    pub period: Duration,
}

impl LeaseSettings {
    /// A duration of 8 s, of which the leader uses 5, renewed every 1.5 s. Another replica
    /// works within 10 s of a crash.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(8),
            margin: Duration::from_secs(3),
            period: Duration::from_millis(1500),
        }
    }
}

/// The end of a term on two clocks: the monotonic clock does not jump, and the wall clock
/// continues while a machine is suspended.
#[derive(Clone, Copy)]
struct Term {
    monotonic: Instant,
    wall: SystemTime,
}

impl Term {
    fn from_now(length: Duration) -> Self {
        Self {
            monotonic: Instant::now() + length,
            wall: SystemTime::now() + length,
        }
    }

    fn left(self) -> Option<Duration> {
        let monotonic = self.monotonic.checked_duration_since(Instant::now())?;
        let wall = self.wall.duration_since(SystemTime::now()).ok()?;
        Some(monotonic.min(wall)).filter(|left| !left.is_zero())
    }
}

/// The leadership of this replica. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Leadership(Arc<Shared>);

struct Shared {
    term: Lock<Option<Term>>,
    leading: watch::Sender<bool>,
    always: bool,
}

impl Leadership {
    /// The leadership of a single replica, which needs no lease.
    pub fn always() -> Self {
        Self::with(true)
    }

    fn with(always: bool) -> Self {
        Self(Arc::new(Shared {
            term: Lock::new(None),
            leading: watch::Sender::new(always),
            always,
        }))
    }

    /// Returns how much longer this replica may write. Call it before every write and use the
    /// result as the write's deadline.
    pub fn check(&self) -> Result<Duration, NotLeader> {
        if self.0.always {
            return Ok(Duration::MAX);
        }
        self.term().and_then(Term::left).ok_or(NotLeader)
    }

    /// Returns when this replica leads.
    pub async fn gained(&self) {
        let mut leading = self.0.leading.subscribe();
        while self.check().is_err() {
            // The sender lives in `self`, so this cannot fail.
            let _ = leading.changed().await;
        }
    }

    /// Returns when this replica no longer leads.
    pub async fn lost(&self) {
        let mut leading = self.0.leading.subscribe();
        while let Ok(left) = self.check() {
            let left = left.min(Duration::from_secs(3600));
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = leading.changed() => {}
            }
        }
    }

    fn term(&self) -> Option<Term> {
        *self.0.term.lock()
    }

    fn set(&self, term: Option<Term>) {
        *self.0.term.lock() = term;
        let leading = self.check().is_ok();
        let before = self.0.leading.send_replace(leading);
        if leading != before {
            info!(leading, "leadership changed");
        }
    }

    /// Starts to campaign for the lease. After `stop` the future gives the lease back and ends.
    /// Cancel `stop` only when the controllers have ended.
    pub fn campaign(
        client: &Client,
        settings: LeaseSettings,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let leadership = Self::with(false);
        let candidate = Candidate {
            api: Api::namespaced(client.clone(), &settings.namespace),
            settings,
            leadership: leadership.clone(),
            seen: None,
        };
        (leadership, candidate.run(stop))
    }
}

/// A version of the lease, and the time since which it has been current.
struct SeenVersion {
    version: Option<String>,
    since: Instant,
}

struct Candidate {
    api: Api<Lease>,
    settings: LeaseSettings,
    leadership: Leadership,
    seen: Option<SeenVersion>,
}

impl Candidate {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.turn().await;
            // Random, so that replicas do not send requests at the same moments.
            let spread = self.settings.period.mul_f64(0.8 + 0.4 * fraction());
            tokio::select! {
                () = tokio::time::sleep(spread) => {}
                () = stop.cancelled() => {}
            }
        }
        self.release().await;
    }

    async fn turn(&mut self) {
        // The term begins before the request: the server may have stored the renewal at
        // once, and the answer may have been slow.
        let term = Term::from_now(self.settings.duration - self.settings.margin);
        let deadline = self.settings.duration - self.settings.margin;
        match tokio::time::timeout(deadline, self.attempt()).await {
            Ok(Ok(true)) => self.leadership.set(Some(term)),
            Ok(Ok(false)) => self.leadership.set(None),
            Ok(Err(error)) => {
                warn!(%error, "the lease could not be renewed or read");
                self.leadership.set(self.leadership.term());
            }
            Err(_) => {
                warn!("the lease could not be renewed or read in time");
                self.leadership.set(self.leadership.term());
            }
        }
    }

    /// Takes, renews or reads the lease. Returns true if this replica has it.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.api.get_opt(&self.settings.name).await? else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(self.settings.name.clone());
            lease.spec = Some(self.claim(&LeaseSpec::default()));
            return lost_races_are_answers(self.api.create(&params, &lease).await);
        };
        let before = lease.spec.take().unwrap_or_default();
        if !self.may_take(&before, lease.metadata.resource_version.as_deref()) {
            return Ok(false);
        }
        lease.spec = Some(self.claim(&before));
        lost_races_are_answers(self.api.replace(&self.settings.name, &params, &lease).await)
    }

    /// True if this replica may take the lease: it has it already, nobody has it, or it has not
    /// changed for its duration.
    fn may_take(&mut self, spec: &LeaseSpec, version: Option<&str>) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.settings.identity {
            return true;
        }
        let seconds = spec
            .lease_duration_seconds
            .unwrap_or(0)
            .max(1)
            .unsigned_abs();
        match &self.seen {
            Some(seen) if seen.version.as_deref() == version => {
                seen.since.elapsed() >= Duration::from_secs(seconds.into())
            }
            _ => {
                self.seen = Some(SeenVersion {
                    version: version.map(str::to_owned),
                    since: Instant::now(),
                });
                false
            }
        }
    }

    fn claim(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let ours = before.holder_identity.as_deref() == Some(&self.settings.identity);
        let transitions = before.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: i32::try_from(self.settings.duration.as_secs()).ok(),
            renew_time: now.clone(),
            acquire_time: if ours {
                before.acquire_time.clone()
            } else {
                now
            },
            lease_transitions: Some(if ours { transitions } else { transitions + 1 }),
            ..before.clone()
        }
    }

    /// Gives the lease back, so that another replica need not wait.
    async fn release(&self) {
        let held = self.leadership.check().is_ok();
        self.leadership.set(None);
        if !held {
            return;
        }
        let release = async {
            let mut lease = self.api.get(&self.settings.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.settings.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            self.api
                .replace(&self.settings.name, &PostParams::default(), &lease)
                .await
                .map(drop)
        };
        match tokio::time::timeout(Duration::from_secs(3), release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the lease could not be given back"),
            Err(_) => warn!("the lease could not be given back in time"),
        }
    }
}

/// A conflict means that another replica was faster.
fn lost_races_are_answers(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// A random number in 0..1.
fn fraction() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    #[allow(clippy::cast_precision_loss)]
    let fraction = (high >> 16) as f64 / (1_u64 << 48) as f64;
    fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        let config = kube::Config::new(http::Uri::from_static("http://127.0.0.1:1"));
        let client = Client::try_from(config).unwrap();
        Candidate {
            api: Api::namespaced(client, "ns"),
            settings: LeaseSettings::new("ns", "hutch", "me"),
            leadership: Leadership::with(false),
            seen: None,
        }
    }

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(8),
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_by_itself() {
        let leadership = Leadership::with(false);
        assert_eq!(leadership.check(), Err(NotLeader));
        leadership.set(Some(Term::from_now(Duration::from_secs(5))));
        assert!(leadership.check().unwrap() <= Duration::from_secs(5));
        tokio::time::timeout(Duration::from_secs(6), leadership.lost())
            .await
            .unwrap();
        assert_eq!(leadership.check(), Err(NotLeader));
    }

    #[tokio::test]
    async fn a_term_ends_on_either_clock() {
        let mut term = Term::from_now(Duration::from_secs(5));
        term.wall = SystemTime::now() - Duration::from_secs(1);
        assert!(term.left().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_over_only_after_its_duration_without_a_change() {
        let mut us = candidate();
        assert!(us.may_take(&held_by(""), Some("1")));
        assert!(us.may_take(&held_by("me"), Some("1")));
        assert!(!us.may_take(&held_by("other"), Some("1")));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!us.may_take(&held_by("other"), Some("2")));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!us.may_take(&held_by("other"), Some("2")));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(us.may_take(&held_by("other"), Some("2")));
    }

    #[tokio::test]
    async fn a_takeover_is_counted_and_a_renewal_is_not() {
        let us = candidate();
        assert_eq!(us.claim(&held_by("other")).lease_transitions, Some(1));
        assert_eq!(us.claim(&held_by("me")).lease_transitions, Some(0));
    }

    #[tokio::test]
    async fn a_replica_without_a_lease_may_always_write() {
        assert!(Leadership::always().check().is_ok());
        Leadership::always().gained().await;
    }
}
