//! Operations: the steps that a user waits for. Each is a span with the target
//! [`OPERATION`]. It produces a duration in the metrics and, if traces are sent, a span in
//! the trace. Names are a closed set. Attributes name objects and never contain data of a
//! client.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Instrument, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Target of spans that are measured and traced.
pub const OPERATION: &str = "hutch::operation";
/// Target of spans that are only traced, because they have other metrics.
pub const TRACED: &str = "hutch::traced";
/// The field with which OpenTelemetry marks a span as failed.
const STATUS: &str = "otel.status_code";

/// Upper bounds of the histogram's buckets, in seconds: from a command on an open channel to
/// a cold start.
const BUCKETS: [f64; 14] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 5.0, 30.0,
];

/// Creates the span of an operation: `operation!("exec", pod = name)`.
#[macro_export]
macro_rules! operation {
    ($name:literal $(, $($fields:tt)*)?) => {
        tracing::info_span!(
            target: $crate::OPERATION,
            $name,
            otel.status_code = tracing::field::Empty,
            $($($fields)*)?
        )
    };
}

/// Runs `work` in the span of its operation. If the future is dropped before its end, the
/// operation counts as cancelled.
///
/// # Errors
/// Those of `work`. They mark the operation as failed.
pub async fn measured<T, E>(span: Span, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let result = work.instrument(span.clone()).await;
    span.record(STATUS, if result.is_ok() { "OK" } else { "ERROR" });
    result
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
    outcome: &'static str,
}

/// A layer that measures the duration of each operation.
pub(super) struct Durations(Family<Labels, Histogram, fn() -> Histogram>);

impl Durations {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds =
            Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let help = "Operations by name and outcome, in seconds";
        registry.register("operation_duration_seconds", help, seconds.clone());
        Self(seconds)
    }
}

/// An operation in progress.
struct Running {
    since: Instant,
    outcome: &'static str,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Durations {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Running {
                since: Instant::now(),
                outcome: "cancelled",
            });
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut status = Status(None);
        values.record(&mut status);
        if let (Some(outcome), Some(span)) = (status.0, context.span(id))
            && let Some(running) = span.extensions_mut().get_mut::<Running>()
        {
            running.outcome = outcome;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        if let Some(running) = span.extensions().get::<Running>() {
            let labels = Labels {
                operation: span.name(),
                outcome: running.outcome,
            };
            let seconds = running.since.elapsed().as_secs_f64();
            self.0.get_or_create(&labels).observe(seconds);
        }
    }
}

struct Status(Option<&'static str>);

impl Visit for Status {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == STATUS {
            self.0 = Some(if value == "OK" { "ok" } else { "error" });
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[tokio::test]
    async fn an_operation_is_counted_by_name_and_outcome() {
        let mut registry = Registry::with_prefix("hutch");
        let durations = Durations::register(&mut registry);
        let subscriber = tracing_subscriber::registry().with(durations);
        let _here = tracing::subscriber::set_default(subscriber);
        let good = measured(operation!("exec", pod = "a"), async { Ok::<_, ()>(1) });
        assert_eq!(good.await, Ok(1));
        let bad = measured(operation!("exec", pod = "a"), async { Err::<(), _>(2) });
        assert_eq!(bad.await, Err(2));
        drop(measured(operation!("exec", pod = "a"), async {
            Ok::<_, ()>(3)
        }));
        let text = crate::metrics(&Mutex::new(registry));
        for outcome in ["ok", "error", "cancelled"] {
            let count = format!(
                r#"hutch_operation_duration_seconds_count{{operation="exec",outcome="{outcome}"}} 1"#
            );
            assert!(text.contains(&count), "{text}");
        }
    }
}
