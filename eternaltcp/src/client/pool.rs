//! The task that makes a standby carrier and keeps it until it is claimed.

use std::future::poll_fn;
use std::task::{Context, Poll};

use eternaltcp_proto::{Standby, StandbyEvent, Time};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;
use tracing::Instrument;

use super::dial::{DialRequest, Dialed, Dialer};
use super::event::{Claimed, ClientEvent, Handle, PoolEvent, PooledId};
use crate::driver::{CarrierIo, Clock};

/// A request to a standby carrier's task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PoolRequest {
    /// Ask by a heartbeat whether it lives.
    Probe,
    /// Give it up: somebody uses it.
    Claim,
}

/// The task that makes and keeps a standby carrier; it ends with this value.
#[derive(Debug)]
pub(super) struct Pooled {
    requests: mpsc::Sender<PoolRequest>,
    abort: AbortHandle,
}

impl Pooled {
    /// Begins to make one. What becomes of it comes as a [`ClientEvent::Pool`] with this id.
    pub(super) fn start(
        id: PooledId,
        dialer: Dialer,
        handle: Handle,
        request: DialRequest,
        standby: Standby,
        now: Time,
    ) -> Self {
        let (requests, requested) = mpsc::channel(2);
        let task = PoolTask { id, handle, clock: Clock::showing(now), requested };
        let task = tokio::spawn(task.run(dialer, request, standby).in_current_span());
        Self { requests, abort: task.abort_handle() }
    }

    /// Makes it check whether the carrier lives.
    pub(super) fn probe(&self) {
        // If there is no room, the same was asked just now.
        let _ = self.requests.try_send(PoolRequest::Probe);
    }

    /// Asks for the carrier, if it stands by: [`PoolEvent::Claimed`] follows.
    pub(super) fn claim(&self) {
        // If there is no room, it was asked for just now.
        let _ = self.requests.try_send(PoolRequest::Claim);
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

struct PoolTask {
    id: PooledId,
    handle: Handle,
    clock: Clock,
    requested: mpsc::Receiver<PoolRequest>,
}

impl PoolTask {
    async fn run(mut self, dialer: Dialer, request: DialRequest, standby: Standby) {
        let event = match dialer.dial(request, || {}).await {
            Ok(dialed) => self.keep(dialed, standby).await,
            Err(error) => PoolEvent::Lost(error.to_string()),
        };
        self.tell(event).await;
    }

    async fn tell(&self, event: PoolEvent) {
        self.handle.tell(ClientEvent::Pool(self.id, event)).await;
    }

    /// Keeps the carrier until it is claimed or lost.
    async fn keep(&mut self, dialed: Dialed, mut standby: Standby) -> PoolEvent {
        let Dialed { mut carrier, server, path, .. } = dialed;
        loop {
            let until = standby.poll_timeout().map(|time| self.clock.instant(time));
            let timer = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let clock = self.clock;
            tokio::select! {
                moved = poll_fn(|cx| poll_carrier(cx, &mut carrier, &mut standby, clock)) => {
                    if let Err(why) = moved {
                        return PoolEvent::Lost(why);
                    }
                    carrier.shrink();
                }
                request = self.requested.recv() => match request {
                    Some(PoolRequest::Claim) if standby.is_ready() => {
                        let claimed = Claimed { carrier, standby, path, server };
                        return PoolEvent::Claimed(Box::new(claimed));
                    }
                    Some(PoolRequest::Claim) => {}
                    Some(PoolRequest::Probe) => standby.probe(clock.now()),
                    None => return PoolEvent::Lost("it is not wanted any more".to_owned()),
                },
                () = timer => standby.handle_timeout(clock.now()),
            }
            while let Some(event) = standby.poll_event() {
                match event {
                    StandbyEvent::Ready => self.tell(PoolEvent::Ready).await,
                    StandbyEvent::Refused(refusal) => return PoolEvent::Lost(refusal.to_string()),
                    StandbyEvent::Dead => return PoolEvent::Lost("it does not answer".to_owned()),
                }
            }
        }
    }
}

/// Sends what is due; ready when something was received.
fn poll_carrier(
    cx: &mut Context<'_>,
    carrier: &mut CarrierIo,
    standby: &mut Standby,
    clock: Clock,
) -> Poll<Result<(), String>> {
    let sent = carrier.poll_send(cx, clock.now(), |now| standby.poll_transmit(now));
    if let Poll::Ready(Err(error)) = sent {
        return Poll::Ready(Err(error.to_string()));
    }
    let mut plaintext = Vec::new();
    let read = carrier.poll_read(cx, &mut plaintext);
    for chunk in plaintext {
        if let Err(violation) = standby.handle_input(clock.now(), chunk) {
            return Poll::Ready(Err(violation.to_string()));
        }
    }
    read.map(|read| read.map(drop).map_err(|error| error.to_string()))
}
