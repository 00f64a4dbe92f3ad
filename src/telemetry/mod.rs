//! How the process tells what it does: log lines, metrics, traces. Every module may
//! use it; it knows none.

mod operations;
mod traces;

use std::io::IsTerminal;
use std::sync::Mutex;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub(crate) use operations::operation;
pub use operations::{OPERATION, TRACED, measured};
pub use traces::{TRACEPARENT, Traces, continues, traceparent};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Sends log lines to stderr from now on, durations of operations to `registry`, and
/// spans to the collector at `otlp`, if there is one. `RUST_LOG` says which lines
/// there are; by default those of level info and above.
///
/// # Errors
/// When the collector's endpoint cannot be one.
pub fn start(
    format: LogFormat,
    otlp: Option<&str>,
    service: &'static str,
    registry: &mut Registry,
) -> anyhow::Result<Option<Traces>> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Human => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Of the operations the log shows what they say, not that they are.
    let no_spans = tracing_subscriber::filter::filter_fn(|about| {
        !matches!(about.target(), OPERATION | TRACED)
    });
    let measured = Targets::new().with_target(OPERATION, LevelFilter::INFO);
    let traced = measured.clone().with_target(TRACED, LevelFilter::INFO);
    let traces = otlp
        .map(|endpoint| Traces::to(endpoint, service))
        .transpose()?;
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(traced)
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(no_spans).with_filter(filter))
        .with(operations::Durations::register(registry).with_filter(measured))
        .with(spans)
        .init();
    Ok(traces)
}

/// All metrics of the process in the OpenMetrics text format.
pub fn metrics(registry: &Mutex<Registry>) -> String {
    let registry = registry
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}
