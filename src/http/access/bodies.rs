//! Bodies on their way in and out: what comes in is counted and must keep coming,
//! and what a request holds is held until its answer has gone out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::visit::Visit;

/// How long a client may send nothing of a body that it has begun.
const STALL: Duration = Duration::from_secs(30);

/// A request's body, counted.
pub struct Counted {
    body: Body,
    visit: Arc<Visit>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    /// `body`, whose bytes `visit` counts.
    pub fn wrap(body: Body, visit: Arc<Visit>) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self {
            body,
            visit,
            stalled: None,
        })
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
            return stalled.as_mut().poll(cx).map(|()| {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Some(Err(axum::Error::new(error)))
            });
        }
        self.stalled = None;
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.visit.receive(data.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, and what its request holds.
pub struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Send + Unpin + 'static> Holding<T> {
    /// `body`, and `held` until it has gone out.
    pub fn wrap(body: Body, held: T) -> Body {
        Body::new(Self { body, _held: held })
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn visit() -> Arc<Visit> {
        Arc::new(Visit::new(None, Duration::ZERO))
    }

    #[tokio::test]
    async fn what_comes_in_is_counted() {
        let visit = visit();
        let body = Counted::wrap(Body::from("seven b"), visit.clone());
        body.collect().await.unwrap();
        assert_eq!(visit.received(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_breaks_off() {
        let endless = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let body = Counted::wrap(Body::from_stream(endless), visit());
        assert!(body.collect().await.is_err());
    }
}
