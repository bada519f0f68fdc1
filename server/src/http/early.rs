//! Answers that come before the request has been read to its end: a manifest that is too large, a chunk out of order, a
//! missing login. Such a connection can serve no other request. It says so, and it ends in two steps: closed at once
//! with bytes unread, the kernel would reset it, and the client might never see what it was told (RFC 9112, section 9.6).

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderValue, Request, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a client may take to notice that its connection has ended: an answer gets around the world in that time.
const LINGER: Duration = Duration::from_secs(2);

/// Says `Connection: close` where the answer leaves some of the request unread.
pub(super) async fn close_unread<F>(request: Request<Body>, answer: impl FnOnce(Request<Body>) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if request.body().is_end_stream() || request.version() >= Version::HTTP_2 {
        return answer(request).await;
    }
    let ended = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| Body::new(Watched { body, ended: ended.clone() }));
    let mut response = answer(request).await;
    if !ended.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request's body that notes its end.
struct Watched {
    body: Body,
    ended: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        if polled.is_none() || self.body.is_end_stream() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that, once it is shut down, takes and forgets what the client still sends until the client closes too.
#[derive(Debug)]
pub(super) struct Lingering<S> {
    stream: S,
    /// Runs from the moment when nothing more is written.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, end } = &mut *self;
        if end.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let end = end.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut forgotten = [0; 16 * 1024];
        while end.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut forgotten);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The client has closed too, or is gone.
                _ => return Poll::Ready(Ok(())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_taken_until_the_client_closes() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Lingering::new(near);
        let client = tokio::spawn(async move {
            far.write_all(&[7; 100_000]).await.unwrap();
            let mut answer = Vec::new();
            far.read_to_end(&mut answer).await.unwrap();
            answer
        });
        near.write_all(b"too large").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(client.await.unwrap(), b"too large");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_close_is_not_waited_for_for_ever() {
        let (near, _far) = tokio::io::duplex(16);
        let begun = Instant::now();
        Lingering::new(near).shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LINGER);
    }
}
