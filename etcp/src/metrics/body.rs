//! The bodies of answers: one that is whole, and one of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The time after which a connection ends that takes no event.
const SLOW: Duration = Duration::from_secs(10);

/// The time at which a connection ends.
#[derive(Clone, Debug)]
pub(super) struct ConnectionEnd(Arc<Mutex<Instant>>);

impl ConnectionEnd {
    pub(super) fn after(time: Duration) -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + time)))
    }

    /// Postpones the end, because an event was taken.
    fn put_off(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + SLOW;
    }

    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for it. Cancel-safe.
    pub(super) async fn passed(&self) {
        loop {
            let at = self.at();
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// The body is sent at once.
    Whole(Option<Bytes>),
    /// The body continues as long as events are taken.
    Events(mpsc::Receiver<Bytes>, ConnectionEnd),
}

impl AnswerBody {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            // hyper asks for the next event when most of the last one was sent.
            Self::Events(events, end) => {
                let event = ready!(events.poll_recv(cx));
                end.put_off();
                event
            }
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Events(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Events(..) => SizeHint::default(),
        }
    }
}
