//! Probes and metrics: `/healthz`, `/readyz` and `/metrics`, on their own listener.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::server;

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The state and the metrics that a process reports.
pub struct Ops {
    /// Names of the parts that are not ready to work, such as caches that have
    /// not been filled yet.
    pub waiting_for: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// The state of the database in one line; `None` for a program without one.
    /// Readiness does not depend on it.
    pub database: Option<Box<dyn Fn() -> String + Send + Sync>>,
    /// All metrics in the OpenMetrics text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

impl Ops {
    /// Serves the three routes on `listener` until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let ops = Arc::new(self);
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = ops.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(answer) }
        });
        server::serve(listener, service, None, shutdown).await;
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, text, kind) = match path {
            "/healthz" | "/readyz" | "/metrics"
                if !matches!(*method, Method::GET | Method::HEAD) =>
            {
                let refused = "only GET is allowed\n".to_owned();
                (StatusCode::METHOD_NOT_ALLOWED, refused, TEXT)
            }
            "/healthz" => (StatusCode::OK, "ok\n".to_owned(), TEXT),
            "/readyz" => self.readiness(),
            "/metrics" => (StatusCode::OK, (self.metrics)(), OPEN_METRICS),
            _ => {
                let routes = "there are /healthz, /readyz and /metrics\n".to_owned();
                (StatusCode::NOT_FOUND, routes, TEXT)
            }
        };
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        answer
    }

    fn readiness(&self) -> (StatusCode, String, &'static str) {
        let waiting = (self.waiting_for)();
        if !waiting.is_empty() {
            let text = format!("waiting for {}\n", waiting.join(", "));
            return (StatusCode::SERVICE_UNAVAILABLE, text, TEXT);
        }
        let database = self.database.as_ref();
        let database = database.map(|state| format!("database: {}\n", state()));
        let text = format!("ok\n{}", database.unwrap_or_default());
        (StatusCode::OK, text, TEXT)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn ops(waiting: &'static [&'static str]) -> Ops {
        Ops {
            waiting_for: Box::new(|| waiting.iter().map(ToString::to_string).collect()),
            database: Some(Box::new(|| "none is configured".to_owned())),
            metrics: Box::new(|| "# EOF\n".to_owned()),
        }
    }

    async fn text(answer: Response<Full<Bytes>>) -> (u16, String) {
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_process_is_ready_when_it_waits_for_nothing() {
        let ready = text(ops(&[]).answer(&Method::GET, "/readyz")).await;
        assert_eq!(
            ready,
            (200, "ok\ndatabase: none is configured\n".to_owned())
        );
        let waiting = text(ops(&["pods", "claims"]).answer(&Method::GET, "/readyz")).await;
        assert_eq!(waiting, (503, "waiting for pods, claims\n".to_owned()));
        let alive = text(ops(&["pods"]).answer(&Method::HEAD, "/healthz")).await;
        assert_eq!(alive, (200, "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let refused = ops(&[]).answer(&Method::POST, "/metrics");
        assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
        assert_eq!(refused.status(), 405);
        assert_eq!(ops(&[]).answer(&Method::GET, "/").status(), 404);
    }
}
