//! The connections of those who read metrics.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use eternaltcp::{MonitoringListener, MonitoringStream};
use hyper::Request;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::FigureSource;
use super::answer::answer;

/// Concurrent connections. Further ones wait until one of these has ended.
pub(super) const MAX_CONNECTIONS: usize = 8;

/// The time that a client has for its request.
const REQUEST: Duration = Duration::from_secs(5);

/// The time after which a connection ends, whatever it waits for.
const LONGEST: Duration = Duration::from_secs(30);

/// The maximum length of a request in bytes, and the number of its headers.
const MAX_REQUEST: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Serves connections until it is cancelled, which ends them.
pub(super) async fn serve(mut listener: MonitoringListener, source: Arc<FigureSource>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = listener.accept().await;
        while connections.try_join_next().is_some() {}
        connections.spawn(serve_one(stream, Arc::clone(&source)));
    }
}

/// Answers the request of one connection. A client that wants to ask again connects again.
async fn serve_one(stream: MonitoringStream, source: Arc<FigureSource>) {
    let is_loopback = stream.is_loopback();
    let service = service_fn(move |request: Request<Incoming>| {
        let source = Arc::clone(&source);
        // Nothing is expected in the body of a request to read.
        let (head, _) = request.into_parts();
        async move {
            let response = answer(&head, is_loopback, &source).await;
            Ok::<_, Infallible>(response.map(|text| WholeBody(Some(text))))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST).keep_alive(false);
    builder.max_buf_size(MAX_REQUEST).max_headers(MAX_HEADERS);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(LONGEST, connection).await {
        debug!("metrics: {error}");
    }
}

/// A body that is sent at once.
struct WholeBody(Option<Bytes>);

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
