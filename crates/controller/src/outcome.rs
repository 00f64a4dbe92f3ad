//! How reconciles go, as metrics and log lines off the controllers' result
//! streams. Labels are closed sets; names of objects are in the log only.

use std::time::Duration;

use kube::Resource;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::ObjectRef;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::{debug, warn};

use hutch_kube::apply::Error;

/// Upper bounds of the buckets, in seconds.
const BUCKETS: [f64; 7] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    controller: &'static str,
}

/// Counters and durations of all controllers.
#[derive(Clone)]
pub struct Metrics {
    reconciles: Family<Labels, Counter>,
    seconds: Family<Name, Histogram>,
    waiting: Family<Name, Histogram>,
    leading: Gauge,
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            waiting: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            leading: Gauge::default(),
        };
        registry.register(
            "reconciles",
            "Reconciles by controller and outcome",
            metrics.reconciles.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciles",
            metrics.seconds.clone(),
        );
        registry.register(
            "queue_duration_seconds",
            "Time from a change to the reconcile that it asks for",
            metrics.waiting.clone(),
        );
        registry.register(
            "leading",
            "1 while this replica runs the controllers",
            metrics.leading.clone(),
        );
        metrics
    }

    /// Whether this replica runs the controllers.
    pub fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// How long a changed object waited for its reconcile.
    pub fn waited(&self, controller: &'static str, duration: Duration) {
        self.waiting
            .get_or_create(&Name { controller })
            .observe(duration.as_secs_f64());
    }

    /// How long one reconcile took.
    pub fn took(&self, controller: &'static str, duration: Duration) {
        self.seconds
            .get_or_create(&Name { controller })
            .observe(duration.as_secs_f64());
    }

    /// How one reconcile went.
    pub fn outcome<K, Q>(
        &self,
        controller: &'static str,
        result: &Result<(ObjectRef<K>, Action), controller::Error<Error, Q>>,
    ) where
        K: Resource<DynamicType = ()>,
        Q: std::error::Error + 'static,
    {
        let outcome = match result {
            Ok(_) => "ok",
            Err(controller::Error::ObjectNotFound(_)) => "gone",
            Err(controller::Error::ReconcilerFailed(error, object)) => {
                if matches!(error, Error::Stale(_) | Error::NotLeader(_)) {
                    debug!(controller, %object, %error, "reconcile is tried again");
                } else {
                    warn!(controller, %object, %error, "reconcile failed and is tried again");
                }
                error.kind()
            }
            Err(error) => {
                warn!(controller, %error, "the controller's queue failed");
                "queue"
            }
        };
        self.reconciles
            .get_or_create(&Labels {
                controller,
                outcome,
            })
            .inc();
    }
}
