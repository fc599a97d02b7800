//! The end of a carrier that is refused.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use eternaltcp_proto::Time;

use super::CarrierIo;

/// The time allowed for a refusal to reach the peer, and for the peer to close.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until a refusal has reached the peer before the carrier is dropped.
pub(crate) async fn linger(mut carrier: CarrierIo) {
    let flush = poll_fn(|cx| carrier.poll_shut(cx, Time::ZERO));
    // Best effort: the carrier is of no use in any case.
    let _ = tokio::time::timeout(PATIENCE, flush).await;
    let mut sink = Vec::new();
    let drain = poll_fn(|cx| {
        loop {
            match carrier.poll_read(cx, &mut sink) {
                Poll::Ready(Ok(_)) => sink.clear(),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let _ = tokio::time::timeout(PATIENCE, drain).await;
}
