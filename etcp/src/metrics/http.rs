//! The connections of those who read metrics.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use eternaltcp::{MonitoringListener, MonitoringStream};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tracing::debug;

use super::answer::{Answerer, answer};
use super::body::ConnectionEnd;
use super::feed::PageFeed;

/// The maximum number of concurrent connections. Further ones wait until one of these has ended.
pub(super) const MAX_CONNECTIONS: usize = 8;

/// The time that a client has for its request.
const REQUEST: Duration = Duration::from_secs(5);

/// The time after which a connection ends, whatever it waits for. That of a page ends when it takes no
/// events.
const MAX_CONNECTION: Duration = Duration::from_secs(30);

/// The maximum length of a request in bytes, and the number of its headers.
const MAX_REQUEST: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Serves connections until it is cancelled, which ends them.
pub(super) async fn serve(mut listener: MonitoringListener, feed: Arc<PageFeed>) {
    let mut connections = JoinSet::new();
    let events = Arc::clone(&feed);
    connections.spawn(async move { events.run().await });
    loop {
        let stream = listener.accept().await;
        while connections.try_join_next().is_some() {}
        connections.spawn(serve_one(stream, Arc::clone(&feed)));
    }
}

/// Answers the request of one connection. A client that wants to ask again connects again.
async fn serve_one(stream: MonitoringStream, feed: Arc<PageFeed>) {
    let end = ConnectionEnd::after(MAX_CONNECTION);
    let answerer = Answerer {
        is_loopback: stream.is_loopback(),
        is_local: stream.is_local(),
        feed,
        end: end.clone(),
    };
    let answerer = Arc::new(answerer);
    let service = service_fn(move |request: Request<Incoming>| {
        let answerer = Arc::clone(&answerer);
        // Nothing is expected in the body of a request to read.
        let (head, _) = request.into_parts();
        async move { Ok::<_, Infallible>(answer(&head, &answerer).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST).keep_alive(false);
    builder.max_buf_size(MAX_REQUEST).max_headers(MAX_HEADERS);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            debug!("metrics: {error}");
        },
        () = end.passed() => {}
    }
}
