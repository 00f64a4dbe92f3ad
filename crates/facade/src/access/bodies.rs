//! Wrappers around bodies. A request's body is counted and has timeouts. A response's
//! body keeps the permits of its request until the client has read it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::context::RequestContext;
use super::memory::MemoryPermit;

/// The longest time between two parts of a request body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time in which a whole request body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest frame that the connection gets at a time. Bytes in the connection's buffers
/// are outside of the memory budget.
const MAX_FRAME_BYTES: usize = 64 << 10;

/// A request's body.
pub struct CountedBody {
    body: Body,
    context: Arc<RequestContext>,
    memory: Option<Arc<MemoryPermit>>,
    deadline: Instant,
    timeout: Option<Pin<Box<Sleep>>>,
}

impl CountedBody {
    /// Counts the bytes of `body` in `context`. When the body is dropped, read or not,
    /// `memory` shrinks to the bytes that arrived.
    pub fn wrap(
        body: Body,
        context: Arc<RequestContext>,
        memory: Option<Arc<MemoryPermit>>,
    ) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self {
            body,
            context,
            memory,
            deadline: Instant::now() + BODY_TIMEOUT,
            timeout: None,
        })
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.shrink(self.context.received());
        }
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            let until = self.deadline.min(Instant::now() + IDLE_TIMEOUT);
            let timeout = self
                .timeout
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            return timeout.as_mut().poll(cx).map(|()| {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Some(Err(axum::Error::new(error)))
            });
        }
        self.timeout = None;
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.context.receive(data.len());
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

/// A response's body with the permits of its request.
pub struct HoldingBody<T> {
    body: Body,
    /// Bytes of the current frame that the connection has not got yet.
    rest: Bytes,
    _held: T,
}

impl<T: Send + Unpin + 'static> HoldingBody<T> {
    /// Drops `held` together with `body`, when it has been sent or the client is gone.
    pub fn wrap(body: Body, held: T) -> Body {
        Body::new(Self {
            body,
            rest: Bytes::new(),
            _held: held,
        })
    }
}

impl<T: Unpin> HttpBody for HoldingBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) if data.len() > MAX_FRAME_BYTES => self.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let length = self.rest.len().min(MAX_FRAME_BYTES);
        let part = self.rest.split_to(length);
        // A copy, because a slice would keep the whole buffer in memory.
        let part = Bytes::copy_from_slice(&part);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::access::memory::MemoryBudget;

    fn context() -> Arc<RequestContext> {
        Arc::new(RequestContext::new(None, Duration::ZERO))
    }

    #[tokio::test]
    async fn received_bytes_are_counted() {
        let context = context();
        let body = CountedBody::wrap(Body::from("seven b"), context.clone(), None);
        body.collect().await.unwrap();
        assert_eq!(context.received(), 7);
    }

    #[tokio::test]
    async fn a_body_that_was_read_reserves_only_the_bytes_that_arrived() {
        let budget = MemoryBudget::new(48 << 10, 48 << 10);
        let memory = Arc::new(budget.permit(None));
        memory.reserve(48 << 10).unwrap();
        let body = CountedBody::wrap(Body::from("seven b"), context(), Some(memory.clone()));
        body.collect().await.unwrap();
        let other = budget.permit(None);
        other.reserve(47 << 10).unwrap();
        assert!(budget.permit(None).reserve(1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_fails() {
        let endless = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let body = CountedBody::wrap(Body::from_stream(endless), context(), None);
        assert!(body.collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_fails_after_the_whole_timeout() {
        let began = Instant::now();
        let trickle = futures::stream::unfold((), async |()| {
            tokio::time::sleep(IDLE_TIMEOUT / 2).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b".")), ()))
        });
        let body = CountedBody::wrap(Body::from_stream(Box::pin(trickle)), context(), None);
        assert!(body.collect().await.is_err());
        assert!(began.elapsed() <= BODY_TIMEOUT + IDLE_TIMEOUT);
    }

    #[tokio::test]
    async fn a_response_is_sent_in_frames_and_holds_its_permits_until_the_last() {
        let (content, held) = ("x".repeat(2 * MAX_FRAME_BYTES + 1), Arc::new(()));
        let mut body = HoldingBody::wrap(Body::from(content.clone()), held.clone());
        let mut got = Vec::new();
        while got.len() < content.len() {
            assert_eq!(Arc::strong_count(&held), 2);
            let left = (content.len() - got.len()) as u64;
            assert_eq!(body.size_hint().exact(), Some(left));
            let frame = body.frame().await.unwrap().unwrap();
            got.extend(frame.into_data().unwrap());
        }
        assert!(body.is_end_stream() && got == content.as_bytes());
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
