//! A circuit breaker for the database: the last known state, one log line per
//! state change, and the metrics. While the database is away, statements fail at
//! once and only [`Database::run`](super::Database::run) tries to connect.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use hutch_core::interfaces::{DatabaseError, DatabaseState, Integration};

/// If the database answers with an error of the same kind as the last logged one, it
/// is logged again only after this time.
const LOG_ERROR_EVERY: Duration = Duration::from_secs(60);

/// The state of the database. Tasks can wait for a change of it.
pub struct Circuit {
    /// The database in log lines, without its password.
    target: String,
    state: watch::Sender<CircuitState>,
    connected: Gauge,
    errors: Family<Vec<(&'static str, &'static str)>, Counter>,
}

/// The last known state, with the details that the outside does not see.
pub struct CircuitState {
    /// True after the first probe.
    probed: bool,
    state: DatabaseState,
    /// Kind and time of the last error that was logged although the database
    /// answered.
    logged: Option<(&'static str, Instant)>,
}

/// The operation that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// A check that the database answers.
    Probe,
    /// A statement of a caller.
    Statement,
}

impl Circuit {
    /// A circuit that has seen no probe yet. `target` names the database in log
    /// lines; `None` means that no database is configured.
    pub fn new(target: Option<String>, registry: &mut Registry) -> Self {
        let integration = match target {
            Some(_) => Integration::Away,
            None => Integration::NotConfigured,
        };
        let circuit = Self {
            target: target.unwrap_or_default(),
            state: watch::Sender::new(CircuitState {
                probed: false,
                state: DatabaseState {
                    integration,
                    since: Timestamp::now(),
                    last_error: None,
                },
                logged: None,
            }),
            connected: Gauge::default(),
            errors: Family::default(),
        };
        registry.register(
            "database_connected",
            "1 while the database answers and projects are looked up",
            circuit.connected.clone(),
        );
        registry.register(
            "database_errors",
            "Errors of the database by kind",
            circuit.errors.clone(),
        );
        circuit
    }

    pub fn state(&self) -> DatabaseState {
        self.state.borrow().state.clone()
    }

    /// Notifies after every state change.
    pub fn changes(&self) -> watch::Receiver<CircuitState> {
        self.state.subscribe()
    }

    /// Records that the database answered.
    pub fn record_success(&self) {
        self.state.send_if_modified(|known| {
            known.probed = true;
            if known.state.integration == Integration::Connected {
                return false;
            }
            known.state.integration = Integration::Connected;
            known.state.since = Timestamp::now();
            self.connected.set(1);
            info!("connected to {}, project look-up on", self.target);
            true
        });
    }

    /// Records an error of the database or of the network. Any error of the first
    /// probe counts as "away".
    pub fn record_failure(&self, error: &DatabaseError, attempt: Attempt) {
        self.errors
            .get_or_create(&vec![("kind", error.kind())])
            .inc();
        let text = error.to_string();
        let probe = attempt == Attempt::Probe;
        self.state.send_if_modified(|known| {
            let away = matches!(error, DatabaseError::Away(_)) || (probe && !known.probed);
            let opens =
                away && (known.state.integration == Integration::Connected || !known.probed);
            if opens {
                known.state.integration = Integration::Away;
                known.state.since = Timestamp::now();
                self.connected.set(0);
                warn!(
                    "running standalone because {text}, will retry ({})",
                    self.target
                );
            } else if !away && known.should_log(error.kind()) {
                warn!(kind = error.kind(), "{text} ({})", self.target);
            }
            known.probed |= probe || opens;
            known.state.last_error = Some(text);
            opens
        });
    }

    /// Returns `Ok` if statements may run. It waits only for the first probe, a
    /// moment after the start.
    ///
    /// # Errors
    /// `Away` while the database is away or none is configured.
    pub async fn wait_available(&self) -> Result<(), DatabaseError> {
        let mut state = self.state.subscribe();
        // `self` holds the sender, so this cannot fail.
        let _ = state
            .wait_for(|known| known.probed || known.state.integration == Integration::NotConfigured)
            .await;
        match self.state.borrow().error() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits until the database is away and returns the reason.
    pub async fn wait_unavailable(&self) -> DatabaseError {
        let mut state = self.state.subscribe();
        // `self` holds the sender, so this cannot fail.
        let _ = state.wait_for(|known| known.error().is_some()).await;
        let error = self.state.borrow().error();
        error.unwrap_or_else(|| DatabaseError::Away("it was, for a moment".to_owned()))
    }
}

impl CircuitState {
    fn should_log(&mut self, kind: &'static str) -> bool {
        let recent =
            |(logged, at): (&str, Instant)| logged == kind && at.elapsed() < LOG_ERROR_EVERY;
        if self.logged.is_some_and(recent) {
            return false;
        }
        self.logged = Some((kind, Instant::now()));
        true
    }

    fn error(&self) -> Option<DatabaseError> {
        let text = self.state.last_error.as_deref().unwrap_or("not tried yet");
        let text = text.strip_prefix("the database is away: ").unwrap_or(text);
        (self.state.integration != Integration::Connected)
            .then(|| DatabaseError::Away(text.to_owned()))
    }
}
