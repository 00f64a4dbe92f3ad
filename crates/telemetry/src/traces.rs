//! Traces over OTLP, if an endpoint is set. A request carries the context of its trace in the
//! header `traceparent` (<https://www.w3.org/TR/trace-context/>). The facade passes the
//! context to the controllers in an annotation with the same format.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header that carries the context of a trace.
pub const TRACEPARENT: &str = "traceparent";
/// The longest time to send the last spans.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The exporter of spans.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends spans in batches to the collector at `endpoint`. Spans that a collector does not
    /// accept are dropped, and the log says so. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// If the endpoint is invalid.
    pub(super) fn to(endpoint: &str, service: &'static str) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder().with_tonic();
        let exporter = exporter.with_endpoint(endpoint).build()?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(service);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        Ok(Self(provider.build()))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.0.tracer("hutch")
    }

    /// Sends the spans that are still queued.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Makes `span` a part of the trace in the value of a `traceparent` header. An invalid value
/// is ignored.
pub fn continues(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    // It fails if no traces are sent. Then there is nothing to do.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

/// The value of a `traceparent` header that continues the current trace. `None` if no traces
/// are sent.
pub fn traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}
