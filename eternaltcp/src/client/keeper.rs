//! The task that makes a standby carrier and keeps it until it is claimed.

use std::future::poll_fn;
use std::task::{Context, Poll};

use eternaltcp_proto::{Standby, StandbyEvent, Time};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::dial::{DialRequest, Dialed, Dialer};
use super::notice::{Notice, SpareNews};
use super::path::Path;
use crate::driver::{CarrierIo, Clock, Command, Handle};

/// A claimed standby carrier, with everything that is needed to use it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) carrier: CarrierIo,
    pub(super) standby: Standby,
    pub(super) path: Path,
    pub(super) server: usize,
}

/// A request to a standby carrier's task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    /// Send a heartbeat to check whether it lives.
    Probe,
    /// Hand it over.
    Take,
}

/// The task that makes and keeps a standby carrier; it ends with this value.
#[derive(Debug)]
pub(super) struct Kept {
    wishes: mpsc::Sender<Wish>,
    abort: AbortHandle,
}

impl Kept {
    /// Starts to make one. `notice` reports its progress under this number.
    pub(super) fn start(
        (dialer, handle): (&Dialer, &Handle),
        request: DialRequest,
        standby: Standby,
        now: Time,
        (notice, number): (fn(u64, SpareNews) -> Notice, u64),
    ) -> Self {
        let (wishes, wanted) = mpsc::channel(2);
        let (handle, clock) = (handle.clone(), Clock::showing(now));
        let keeper = Keeper { notice, number, handle, clock, wanted };
        let task = tokio::spawn(keeper.run(dialer.clone(), request, standby));
        Self { wishes, abort: task.abort_handle() }
    }

    /// Makes it check whether the carrier lives.
    pub(super) fn probe(&self) {
        // If there is no room, the same request is already queued.
        let _ = self.wishes.try_send(Wish::Probe);
    }

    /// Requests the carrier, if it stands by: [`SpareNews::Taken`] follows.
    pub(super) fn take(&self) {
        // If there is no room, it was requested just now.
        let _ = self.wishes.try_send(Wish::Take);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

struct Keeper {
    notice: fn(u64, SpareNews) -> Notice,
    number: u64,
    handle: Handle,
    clock: Clock,
    wanted: mpsc::Receiver<Wish>,
}

impl Keeper {
    async fn run(mut self, dialer: Dialer, request: DialRequest, standby: Standby) {
        let news = match dialer.dial(request, || {}).await {
            Ok(dialed) => self.keep(dialed, standby).await,
            Err(error) => SpareNews::Lost(error.to_string()),
        };
        self.tell(news).await;
    }

    async fn tell(&self, news: SpareNews) {
        self.handle.send(Command::Notice((self.notice)(self.number, news))).await;
    }

    /// Keeps the carrier until it is claimed or lost.
    async fn keep(&mut self, dialed: Dialed, mut standby: Standby) -> SpareNews {
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
                        return SpareNews::Lost(why);
                    }
                    carrier.shrink();
                }
                wish = self.wanted.recv() => match wish {
                    Some(Wish::Take) if standby.is_ready() => {
                        let taken = Taken { carrier, standby, path, server };
                        return SpareNews::Taken(Box::new(taken));
                    }
                    Some(Wish::Take) => {}
                    Some(Wish::Probe) => standby.probe(clock.now()),
                    None => return SpareNews::Lost("it is not wanted any more".to_owned()),
                },
                () = timer => standby.handle_timeout(clock.now()),
            }
            while let Some(event) = standby.poll_event() {
                match event {
                    StandbyEvent::Ready => self.tell(SpareNews::Ready).await,
                    StandbyEvent::Refused(refusal) => return SpareNews::Lost(refusal.to_string()),
                    StandbyEvent::Dead => return SpareNews::Lost("it does not answer".to_owned()),
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
