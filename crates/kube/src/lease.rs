//! Leader election on a `coordination.k8s.io` Lease, and the guard that every
//! write asks first. A leader counts itself out `margin` before another replica
//! may count it out, so a replica that froze and wakes does not write any more:
//! the guard is a comparison with two clocks, not a task that has to run.
//! Takeover goes by how long the lease did not change on our own clock, as in
//! client-go: clocks of different machines are never compared.

use std::sync::{Arc, Mutex, PoisonError};
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

/// This replica may not write: it does not hold the lease, or not any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this replica is not the leader")]
pub struct NotLeader;

/// Which lease, who we are, and how patient everybody is.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are. A restarted process may keep its identity, and then takes its
    /// lease back at once, only where no two processes can have the same one at
    /// the same time: the pod's name in a cluster, something random elsewhere.
    pub identity: String,
    /// Another replica takes over after the lease did not change for this long;
    /// whole seconds.
    pub duration: Duration,
    /// How long before that the leader stops writing on its own.
    pub margin: Duration,
    /// How often the lease is renewed or looked at.
    pub period: Duration,
}

impl LeaseSettings {
    /// 8 s until takeover, of which the leader uses 5; renewed every 1.5 s. The
    /// whole is short enough to be working again within 10 s of a crash.
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

/// The end of a term on both clocks: the monotonic one does not jump, the wall
/// clock goes on while a machine is suspended.
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

/// Whether this replica leads. Cheap to clone; all clones agree.
#[derive(Clone)]
pub struct Leadership(Arc<Shared>);

struct Shared {
    term: Mutex<Option<Term>>,
    leading: watch::Sender<bool>,
    always: bool,
}

impl Leadership {
    /// For a single replica that needs no lease.
    pub fn always() -> Self {
        Self::with(true)
    }

    fn with(always: bool) -> Self {
        Self(Arc::new(Shared {
            term: Mutex::new(None),
            leading: watch::Sender::new(always),
            always,
        }))
    }

    /// How much longer this replica may write: to be asked before every write,
    /// and taken as the write's deadline.
    pub fn check(&self) -> Result<Duration, NotLeader> {
        if self.0.always {
            return Ok(Duration::MAX);
        }
        self.term().and_then(Term::left).ok_or(NotLeader)
    }

    /// Resolves when this replica leads.
    pub async fn gained(&self) {
        let mut leading = self.0.leading.subscribe();
        while self.check().is_err() {
            // The sender lives in `self`, so this cannot fail.
            let _ = leading.changed().await;
        }
    }

    /// Resolves when this replica does not lead any more.
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
        *self.0.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, term: Option<Term>) {
        *self.0.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
        let leading = self.check().is_ok();
        let before = self.0.leading.send_replace(leading);
        if leading != before {
            info!(leading, "leadership changed");
        }
    }

    /// Starts to campaign for the lease. The future ends after `stop`, when the
    /// lease has been given back: `stop` it when the controllers have ended.
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

/// What the lease looked like, and since when it has looked like that.
struct Seen {
    version: Option<String>,
    since: Instant,
}

struct Candidate {
    api: Api<Lease>,
    settings: LeaseSettings,
    leadership: Leadership,
    seen: Option<Seen>,
}

impl Candidate {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.turn().await;
            // Spread, so that replicas do not ask in step.
            let spread = self.settings.period.mul_f64(0.8 + 0.4 * fraction());
            tokio::select! {
                () = tokio::time::sleep(spread) => {}
                () = stop.cancelled() => {}
            }
        }
        self.release().await;
    }

    async fn turn(&mut self) {
        // A term counts from before the request, as the server may have taken
        // the renewal in at once and the answer may have been slow.
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

    /// Takes, renews or observes the lease; whether it is ours.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let params = PostParams::default();
        let Some(mut lease) = self.api.get_opt(&self.settings.name).await? else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(self.settings.name.clone());
            lease.spec = Some(self.claim(&LeaseSpec::default()));
            return lost_races_are_answers(self.api.create(&params, &lease).await);
        };
        let before = lease.spec.take().unwrap_or_default();
        if !self.free(&before, lease.metadata.resource_version.as_deref()) {
            return Ok(false);
        }
        lease.spec = Some(self.claim(&before));
        lost_races_are_answers(self.api.replace(&self.settings.name, &params, &lease).await)
    }

    /// Whether the lease is ours, nobody's, or has not changed for its duration.
    fn free(&mut self, spec: &LeaseSpec, version: Option<&str>) -> bool {
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
                self.seen = Some(Seen {
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

/// A conflict means that somebody else was faster.
fn lost_races_are_answers(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// A number in 0..1 that is random enough to spread requests.
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
    async fn a_lease_is_taken_over_only_when_it_did_not_change_for_its_duration() {
        let mut us = candidate();
        assert!(us.free(&held_by(""), Some("1")));
        assert!(us.free(&held_by("me"), Some("1")));
        assert!(!us.free(&held_by("other"), Some("1")));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!us.free(&held_by("other"), Some("2")));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!us.free(&held_by("other"), Some("2")));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(us.free(&held_by("other"), Some("2")));
    }

    #[tokio::test]
    async fn a_takeover_is_counted_and_a_renewal_is_not() {
        let us = candidate();
        assert_eq!(us.claim(&held_by("other")).lease_transitions, Some(1));
        assert_eq!(us.claim(&held_by("me")).lease_transitions, Some(0));
    }

    #[tokio::test]
    async fn without_a_lease_to_hold_the_guard_is_open() {
        assert!(Leadership::always().check().is_ok());
        Leadership::always().gained().await;
    }
}
