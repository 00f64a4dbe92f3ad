//! Metrics and log lines about reconciles. Each label has a fixed set of values;
//! object names appear only in the log.

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

/// Upper bounds of the histogram buckets, in seconds.
const BUCKET_BOUNDS: [f64; 7] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    controller: &'static str,
}

#[derive(Clone)]
pub struct Metrics {
    reconciles: Family<Labels, Counter>,
    seconds: Family<Name, Histogram>,
    waiting: Family<Name, Histogram>,
    leading: Gauge,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKET_BOUNDS)),
            waiting: Family::new_with_constructor(|| Histogram::new(BUCKET_BOUNDS)),
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

    pub fn started_leading(&self) {
        self.leading.set(1);
    }

    pub fn stopped_leading(&self) {
        self.leading.set(0);
    }

    /// Records the time that a changed object waited for its reconcile.
    pub fn record_wait(&self, controller: &'static str, duration: Duration) {
        self.waiting
            .get_or_create(&Name { controller })
            .observe(duration.as_secs_f64());
    }

    /// Records the duration of one reconcile.
    pub fn record_duration(&self, controller: &'static str, duration: Duration) {
        self.seconds
            .get_or_create(&Name { controller })
            .observe(duration.as_secs_f64());
    }

    /// Counts one reconcile by its outcome and logs a failure.
    pub fn record_outcome<K, Q>(
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
