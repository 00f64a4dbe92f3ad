//! Whether the database is there, as everybody last heard: one state, one log
//! line per change of it, and the metrics. While it is away nobody tries it but
//! the task that keeps the state.

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

/// An error of a database that answers is logged again after this long.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The state and who is told of it.
pub struct Circuit {
    shown: String,
    state: watch::Sender<Known>,
    connected: Gauge,
    errors: Family<Vec<(&'static str, &'static str)>, Counter>,
}

/// What is known of the database.
pub struct Known {
    /// Whether it has been tried at all.
    tried: bool,
    state: DatabaseState,
    /// The last error that was logged though the database answered.
    logged: Option<(&'static str, Instant)>,
}

impl Circuit {
    /// Nothing is known yet of the database that is shown as `target`; `None`
    /// where there is none.
    pub fn new(target: Option<String>, registry: &mut Registry) -> Self {
        let integration = match target {
            Some(_) => Integration::Away,
            None => Integration::NotConfigured,
        };
        let circuit = Self {
            shown: target.unwrap_or_default(),
            state: watch::Sender::new(Known {
                tried: false,
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

    /// The present state.
    pub fn state(&self) -> DatabaseState {
        self.state.borrow().state.clone()
    }

    /// Changes its value after every change of the state.
    pub fn changes(&self) -> watch::Receiver<Known> {
        self.state.subscribe()
    }

    /// The database answered.
    pub fn found(&self) {
        self.state.send_if_modified(|known| {
            known.tried = true;
            if known.state.integration == Integration::Connected {
                return false;
            }
            known.state.integration = Integration::Connected;
            known.state.since = Timestamp::now();
            self.connected.set(1);
            info!("connected to {}, project look-up on", self.shown);
            true
        });
    }

    /// The database, or the way to it, failed. `tried` says that it was looked
    /// whether it is there, and not only whether something can be done.
    pub fn failed(&self, error: &DatabaseError, tried: bool) {
        self.errors
            .get_or_create(&vec![("kind", error.kind())])
            .inc();
        let text = error.to_string();
        self.state.send_if_modified(|known| {
            let away = matches!(error, DatabaseError::Away(_)) || (tried && !known.tried);
            let opens = away && (known.state.integration == Integration::Connected || !known.tried);
            if opens {
                known.state.integration = Integration::Away;
                known.state.since = Timestamp::now();
                self.connected.set(0);
                warn!(
                    "running standalone because {text}, will retry ({})",
                    self.shown
                );
            } else if !away && known.worth_logging(error.kind()) {
                warn!(kind = error.kind(), "{text} ({})", self.shown);
            }
            known.tried |= tried || opens;
            known.state.last_error = Some(text);
            opens
        });
    }

    /// Resolves when statements may be tried: at once once it is known how it
    /// stands with the database, which is a moment after the start.
    ///
    /// # Errors
    /// `Away` while the database is.
    pub async fn closed(&self) -> Result<(), DatabaseError> {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = state
            .wait_for(|known| known.tried || known.state.integration == Integration::NotConfigured)
            .await;
        match self.state.borrow().error() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Resolves when the database is away, with why.
    pub async fn opened(&self) -> DatabaseError {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = state.wait_for(|known| known.error().is_some()).await;
        let error = self.state.borrow().error();
        error.unwrap_or_else(|| DatabaseError::Away("it was, for a moment".to_owned()))
    }
}

impl Known {
    fn worth_logging(&mut self, kind: &'static str) -> bool {
        let fresh = |(logged, at): (&str, Instant)| logged == kind && at.elapsed() < LOG_EVERY;
        if self.logged.is_some_and(fresh) {
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
