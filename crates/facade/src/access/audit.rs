//! One line about every request: who, what, which sandbox, how it ended, how many
//! bytes, how long. Never a part of a body, a path of a file, or a credential.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::visit::Visit;
use crate::metrics::known;

/// Characters of a sandbox's id that are shown.
const SHOWN: usize = 128;
/// The status of a request whose client did not wait for the answer, as other
/// servers' logs have it.
const GONE: u16 = 499;

/// Writes the line when the request is over, or its client has gone.
pub async fn audit(request: Request, next: Next) -> Response {
    let visit = request.extensions().get::<Arc<Visit>>().cloned();
    let Some(visit) = visit.filter(|visit| visit.audited) else {
        return next.run(request).await;
    };
    let mut line = Line {
        method: known(request.method()),
        route: request.extensions().get().cloned(),
        began: Instant::now(),
        status: GONE,
        sent: 0,
        visit,
    };
    let answer = next.run(request).await;
    line.status = answer.status().as_u16();
    line.sent = answer.body().size_hint().exact().unwrap_or_default();
    answer
}

struct Line {
    visit: Arc<Visit>,
    method: &'static str,
    route: Option<MatchedPath>,
    began: Instant,
    status: u16,
    sent: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        let who = self.visit.principal.as_deref();
        let sandbox = self.visit.subject();
        let sandbox = sandbox.map(|id| id.chars().take(SHOWN).collect::<String>());
        tracing::info!(
            target: "audit",
            tenant = who.map(|who| who.tenant.as_str()),
            key = who.and_then(|who| who.key.as_deref()),
            namespace = who.map(|who| who.namespace.as_str()),
            method = self.method,
            route = self.route.as_ref().map_or("other", MatchedPath::as_str),
            sandbox = sandbox.as_deref(),
            status = self.status,
            bytes_in = self.visit.received(),
            bytes_out = self.sent,
            ms = self.began.elapsed().as_secs_f64() * 1000.0,
            "request"
        );
    }
}
