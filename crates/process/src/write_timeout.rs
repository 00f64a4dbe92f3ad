//! A timeout for writes. A client that does not read its answer would otherwise keep the
//! connection, and the memory of the answer, forever.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose writes fail with [`ErrorKind::TimedOut`] if the peer accepts no byte for
/// `timeout`. Reads have no timeout.
pub struct WriteTimeout<S> {
    stream: S,
    timeout: Duration,
    /// Set while a write is blocked.
    expiry: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    pub const fn new(stream: S, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            expiry: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> WriteTimeout<S> {
    /// Polls a write. Fails if it has been blocked for the timeout.
    fn poll_in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let polled = write(Pin::new(&mut self.stream), cx);
        if polled.is_ready() {
            self.expiry = None;
            return polled;
        }
        let timeout = self.timeout;
        let expiry = self.expiry.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(expiry.as_mut().poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, S::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, S::poll_shutdown)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
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

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_write_fails_if_the_client_does_not_read() {
        let (stream, _unread) = duplex(4);
        let mut stream = WriteTimeout::new(stream, TIMEOUT);
        let failed = stream.write_all(b"too much").await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_does_not_reach_the_timeout() {
        let (stream, mut slow) = duplex(1);
        let reader = tokio::spawn(async move {
            let mut read = [0; 8];
            for byte in &mut read {
                tokio::time::sleep(TIMEOUT - Duration::from_secs(1)).await;
                *byte = slow.read_u8().await.unwrap();
            }
            read
        });
        let (began, mut stream) = (Instant::now(), WriteTimeout::new(stream, TIMEOUT));
        stream.write_all(b"a letter").await.unwrap();
        assert!(began.elapsed() > 4 * TIMEOUT);
        assert_eq!(&reader.await.unwrap(), b"a letter");
    }
}
