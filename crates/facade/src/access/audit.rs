//! One log line per request: the principal, the route, the sandbox, the status, the
//! bytes and the duration. It never contains a part of a body, the path of a file or a
//! credential.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::context::RequestContext;
use crate::metrics::method_label;

/// A longer ID is cut.
const MAX_SANDBOX_ID_CHARS: usize = 128;
/// The status in the log if the client closed the connection before the response. It is
/// no HTTP status; nginx logs the same number.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Logs the request when its response is ready or its client has disconnected.
pub async fn audit(request: Request, next: Next) -> Response {
    let context = request.extensions().get::<Arc<RequestContext>>().cloned();
    let Some(context) = context.filter(|context| context.audited) else {
        return next.run(request).await;
    };
    let mut record = AuditRecord {
        method: method_label(request.method()),
        route: request.extensions().get().cloned(),
        began: Instant::now(),
        status: CLIENT_CLOSED_REQUEST,
        sent: 0,
        context,
    };
    let response = next.run(request).await;
    record.status = response.status().as_u16();
    record.sent = response.body().size_hint().exact().unwrap_or_default();
    response
}

/// Writes its line when it is dropped, which also happens when the client disconnects.
struct AuditRecord {
    context: Arc<RequestContext>,
    method: &'static str,
    route: Option<MatchedPath>,
    began: Instant,
    status: u16,
    sent: u64,
}

impl Drop for AuditRecord {
    fn drop(&mut self) {
        let principal = self.context.principal.as_deref();
        let sandbox = self.context.subject();
        let sandbox = sandbox.map(|id| id.chars().take(MAX_SANDBOX_ID_CHARS).collect::<String>());
        tracing::info!(
            target: "audit",
            tenant = principal.map(|principal| principal.tenant.as_str()),
            key = principal.and_then(|principal| principal.key.as_deref()),
            namespace = principal.map(|principal| principal.namespace.as_str()),
            method = self.method,
            route = self.route.as_ref().map_or("other", MatchedPath::as_str),
            sandbox = sandbox.as_deref(),
            status = self.status,
            bytes_in = self.context.received(),
            bytes_out = self.sent,
            ms = self.began.elapsed().as_secs_f64() * 1000.0,
            "request"
        );
    }
}
