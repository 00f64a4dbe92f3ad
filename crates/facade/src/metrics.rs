//! How many requests there are, how they end and how long they take; labelled
//! by route, method and status, never by anything that a client chose. Each is a
//! span, which continues the client's trace.

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

use super::access::Visit;
use hutch_telemetry::{TRACED, TRACEPARENT};

/// Upper bounds of the buckets, in seconds: from a command in an open channel to
/// a request that waited for a cold start.
const BUCKETS: [f64; 13] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 5.0, 30.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    method: &'static str,
    status: u16,
}

/// The requests' durations.
pub struct HttpMetrics(Family<Labels, Histogram, fn() -> Histogram>);

impl HttpMetrics {
    /// Metrics that `registry` tells from now on.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let requests =
            Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        registry.register(
            "http_request_duration_seconds",
            "Requests by route, method and status, from their head to the answer's",
            requests.clone(),
        );
        Arc::new(Self(requests))
    }
}

/// A method of the contracts by its name, and every other one by one word.
pub fn known(method: &Method) -> &'static str {
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
    // Whoever is refused writes into nobody's trace.
    let visit = request.extensions().get::<Arc<Visit>>();
    let refused = visit.is_some_and(|visit| visit.refusal.is_some());
    let parent = request.headers().get(TRACEPARENT).filter(|_| !refused);
    if let Some(parent) = parent.and_then(|value| value.to_str().ok()) {
        hutch_telemetry::continues(&span, parent);
    }
    span
}

/// Measures one request.
pub async fn measure(
    State(metrics): State<Arc<HttpMetrics>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let method = known(request.method());
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
