//! A stream that gives up on whoever does not read: a client that takes nothing of
//! its answer holds the connection, and what the answer takes, for no longer than
//! the patience with it.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose writes fail with [`ErrorKind::TimedOut`] where nothing of them is
/// taken for that long. Reading is as it was.
pub struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Since when nothing was taken, as the moment when that is over.
    over: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// `stream`, with so much patience.
    pub const fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            over: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    /// What `act` does with the stream, for as long as there is patience.
    fn within<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let polled = act(Pin::new(&mut self.stream), cx);
        if polled.is_ready() {
            self.over = None;
            return polled;
        }
        let patience = self.patience;
        let over = self.over.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(over.as_mut().poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.within(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, S::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, S::poll_shutdown)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.within(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails() {
        let (stream, _unread) = duplex(4);
        let mut stream = Patient::new(stream, PATIENCE);
        let failed = stream.write_all(b"too much").await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for_as_long_as_it_takes_something() {
        let (stream, mut slow) = duplex(1);
        let reader = tokio::spawn(async move {
            let mut read = [0; 8];
            for byte in &mut read {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                *byte = slow.read_u8().await.unwrap();
            }
            read
        });
        let (began, mut stream) = (Instant::now(), Patient::new(stream, PATIENCE));
        stream.write_all(b"a letter").await.unwrap();
        assert!(began.elapsed() > 4 * PATIENCE);
        assert_eq!(&reader.await.unwrap(), b"a letter");
    }
}
