//! Log lines, metrics and traces of a process. Every crate may use this one. It depends on no
//! other crate of Hutch.

mod operations;
#[cfg(feature = "traces")]
mod traces;

use std::io::IsTerminal;
use std::sync::Mutex;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as MetricsRegistry;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use operations::{OPERATION, TRACED, measured};
#[cfg(feature = "traces")]
pub use traces::{TRACEPARENT, Traces, continues, traceparent};

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for a terminal.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// A layer directly above the registry.
type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Writes log lines to stderr and durations of operations to `metrics`. `RUST_LOG` selects
/// the lines. The default is level info and above.
pub fn start(format: LogFormat, metrics: &mut MetricsRegistry) {
    install(format, None, metrics);
}

/// Like [`start`]. It also sends spans to the collector at the URL `otlp`, if set.
///
/// # Errors
/// If the URL is invalid.
#[cfg(feature = "traces")]
pub fn start_with_traces(
    format: LogFormat,
    otlp: Option<&str>,
    service: &'static str,
    metrics: &mut MetricsRegistry,
) -> anyhow::Result<Option<Traces>> {
    let traces = otlp
        .map(|endpoint| Traces::to(endpoint, service))
        .transpose()?;
    let spans = traces.as_ref().map(|traces| {
        let traced = operations_only().with_target(TRACED, LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(traced)
            .boxed()
    });
    install(format, spans, metrics);
    Ok(traces)
}

fn install(format: LogFormat, spans: Option<BoxedLayer>, metrics: &mut MetricsRegistry) {
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
    // The log shows the lines inside an operation, not the operation itself.
    let no_spans = tracing_subscriber::filter::filter_fn(|about| {
        !matches!(about.target(), OPERATION | TRACED)
    });
    let durations = operations::Durations::register(metrics).with_filter(operations_only());
    tracing_subscriber::registry()
        .with(spans)
        .with(lines.with_filter(no_spans).with_filter(filter))
        .with(durations)
        .init();
}

fn operations_only() -> Targets {
    Targets::new().with_target(OPERATION, LevelFilter::INFO)
}

/// All metrics of the process in the OpenMetrics text format.
pub fn metrics(registry: &Mutex<MetricsRegistry>) -> String {
    let registry = registry
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut text = String::new();
    // A write to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}
