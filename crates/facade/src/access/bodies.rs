//! Bodies on their way in and out: what comes in is counted and must keep coming,
//! and what a request holds is held until its answer has gone out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::room::Room;
use super::visit::Visit;

/// How long a client may send nothing of a body that it has begun.
const STALL: Duration = Duration::from_secs(30);
/// How long all of a body may take to come.
const WHOLE: Duration = Duration::from_secs(300);
/// Bytes of an answer that are handed on at once. More would lie in the buffers of
/// the connection, where nobody knows how much room they take.
const PIECE: usize = 64 << 10;

/// A request's body, counted.
pub struct Counted {
    body: Body,
    visit: Arc<Visit>,
    room: Option<Arc<Room>>,
    until: Instant,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    /// `body`, whose bytes `visit` counts. When it was read, or nobody is going to,
    /// `room` gives back what it has for bytes that did not come.
    pub fn wrap(body: Body, visit: Arc<Visit>, room: Option<Arc<Room>>) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self {
            body,
            visit,
            room,
            until: Instant::now() + WHOLE,
            stalled: None,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.shrink(self.visit.received());
        }
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
            let until = self.until.min(Instant::now() + STALL);
            let stalled = self
                .stalled
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
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
    /// What was read of it and not handed on yet.
    rest: Bytes,
    _held: T,
}

impl<T: Send + Unpin + 'static> Holding<T> {
    /// `body`, and `held` until it has gone out.
    pub fn wrap(body: Body, held: T) -> Body {
        Body::new(Self {
            body,
            rest: Bytes::new(),
            _held: held,
        })
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
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
                Ok(data) if data.len() > PIECE => self.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        // A copy: a part of the whole would keep the whole.
        let piece = Bytes::copy_from_slice(&piece);
        Poll::Ready(Some(Ok(Frame::data(piece))))
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
    use crate::access::room::Rooms;

    fn visit() -> Arc<Visit> {
        Arc::new(Visit::new(None, Duration::ZERO))
    }

    #[tokio::test]
    async fn what_comes_in_is_counted() {
        let visit = visit();
        let body = Counted::wrap(Body::from("seven b"), visit.clone(), None);
        body.collect().await.unwrap();
        assert_eq!(visit.received(), 7);
    }

    #[tokio::test]
    async fn a_body_that_was_read_has_the_room_of_what_came() {
        let rooms = Rooms::new(48 << 10, 48 << 10);
        let room = Arc::new(rooms.room(None));
        room.take(48 << 10).unwrap();
        let body = Counted::wrap(Body::from("seven b"), visit(), Some(room.clone()));
        body.collect().await.unwrap();
        let other = rooms.room(None);
        other.take(47 << 10).unwrap();
        assert!(rooms.room(None).take(1).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_breaks_off() {
        let endless = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let body = Counted::wrap(Body::from_stream(endless), visit(), None);
        assert!(body.collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_breaks_off_too() {
        let began = Instant::now();
        let trickle = futures::stream::unfold((), async |()| {
            tokio::time::sleep(STALL / 2).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b".")), ()))
        });
        let body = Counted::wrap(Body::from_stream(Box::pin(trickle)), visit(), None);
        assert!(body.collect().await.is_err());
        assert!(began.elapsed() <= WHOLE + STALL);
    }

    #[tokio::test]
    async fn an_answer_goes_out_in_pieces_and_holds_until_the_last_is_taken() {
        let (content, held) = ("x".repeat(2 * PIECE + 1), Arc::new(()));
        let mut body = Holding::wrap(Body::from(content.clone()), held.clone());
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
