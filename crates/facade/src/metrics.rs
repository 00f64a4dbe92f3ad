//! Metrics and traces of requests. The labels are route, method and status, never a text
//! that a client chose. Each request is a span that continues the client's trace.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::access::RequestContext;
use hutch_telemetry::{TRACED, TRACEPARENT};

/// Upper bounds of the histogram's buckets, in seconds: from a command in an open channel
/// to a request that waited for a cold start.
const DURATION_BUCKETS: [f64; 13] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 5.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    method: &'static str,
    status: u16,
}

/// The histogram of request durations.
pub struct HttpMetrics(Family<Labels, Histogram, fn() -> Histogram>);

impl HttpMetrics {
    /// Adds the metrics to `registry`.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let requests = Family::new_with_constructor(
            (|| Histogram::new(DURATION_BUCKETS)) as fn() -> Histogram,
        );
        registry.register(
            "http_request_duration_seconds",
            "Requests by route, method and status, from their head to the answer's",
            requests.clone(),
        );
        Arc::new(Self(requests))
    }
}

/// The label of a method. All methods that no contract uses share one, as a client can
/// invent methods.
pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn span(request: &Request, method: &str, route: &str) -> Span {
    let span = tracing::info_span!(
        target: TRACED,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    // A refused request must not add spans to a trace that it names.
    let context = request.extensions().get::<Arc<RequestContext>>();
    let refused = context.is_some_and(|context| context.refusal.is_some());
    let parent = request.headers().get(TRACEPARENT).filter(|_| !refused);
    if let Some(parent) = parent.and_then(|value| value.to_str().ok()) {
        hutch_telemetry::continues(&span, parent);
    }
    span
}

/// Runs a request in its span and records its duration.
pub async fn measure(
    State(metrics): State<Arc<HttpMetrics>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let method = method_label(request.method());
    let span = span(&request, method, &route);
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    let labels = Labels {
        route,
        method,
        status,
    };
    metrics
        .0
        .get_or_create(&labels)
        .observe(began.elapsed().as_secs_f64());
    response
}
