//! Traces over OTLP, where an endpoint is set. Their context travels as the header
//! `traceparent` into a request, and as an annotation of that meaning from the
//! facade to the controllers (<https://www.w3.org/TR/trace-context/>).

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
/// How long the last spans may take to be sent.
const LAST: Duration = Duration::from_secs(2);

/// The way out for spans.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends spans to the collector at `endpoint` from now on, in batches; what a
    /// collector that is away does not take is dropped, and the log says so. Needs a
    /// runtime around it.
    ///
    /// # Errors
    /// When the endpoint cannot be one.
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

    /// Sends what is left.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Makes `span` a part of the trace of that header's value, if it is one.
pub fn continues(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    // Fails where no traces are sent, and then there is nothing to do.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

/// The header's value by which somebody else continues the trace that this is a
/// part of; `None` where no traces are sent.
pub fn traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}
