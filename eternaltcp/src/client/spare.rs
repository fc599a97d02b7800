//! A standing spare: an authenticated carrier over another interface, kept so
//! that a dead path costs one round trip.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use eternaltcp_proto::{Standby, StandbyConfig, StandbyEvent, Time, Tunnel};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::dial::{DialRequest, Dialed, Dialer};
use super::notice::{Notice, SpareNews};
use super::path::Path;
use crate::driver::{CarrierIo, Clock, Command, Handle};

/// How long to wait before another spare is tried.
const PAUSE: Duration = Duration::from_secs(10);

/// A spare that was taken, with all that the attach needs.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) carrier: CarrierIo,
    pub(super) standby: Standby,
    pub(super) path: Path,
    pub(super) server: usize,
}

/// What can be asked of a spare that stands by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    /// Ask by a heartbeat whether it lives.
    Probe,
    /// Give it up for an attach.
    Take,
}

/// The spare of a client, if it has one.
#[derive(Debug)]
pub(super) struct Spare {
    dialer: Dialer,
    handle: Handle,
    state: State,
    /// Which of the spares it is: news of earlier ones are old.
    number: u64,
}

#[derive(Debug)]
enum State {
    /// None, and when to try again.
    None { again: Instant },
    /// It is dialled, or asks for its place.
    Coming(Path, Task),
    /// It stands by.
    Ready(Path, Task),
}

/// The task that makes and keeps a spare; it ends with this value.
#[derive(Debug)]
struct Task {
    wishes: mpsc::Sender<Wish>,
    abort: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Spare {
    pub(super) fn new(dialer: Dialer, handle: Handle) -> Self {
        Self { dialer, handle, state: State::None { again: Instant::now() }, number: 0 }
    }

    /// Makes a spare if there is none and the server lets one stand by, over
    /// another interface than that of `current`.
    pub(super) fn tend(&mut self, now: Time, tunnel: &Tunnel, current: Option<&Path>) {
        let Some(current) = current.filter(|_| tunnel.may_stand_by()) else { return };
        match &self.state {
            State::Coming(path, _) | State::Ready(path, _)
                if path.interface == current.interface =>
            {
                debug!("the spare is where the carrier is: another is made");
            }
            State::None { again } if *again <= Instant::now() => {}
            _ => return,
        }
        self.rest(PAUSE);
        let Some(path) = self.dialer.path_beside(current) else { return };
        let Some(standby) = tunnel.stand_by(now, StandbyConfig::default()) else { return };
        self.number += 1;
        let (wishes, wanted) = mpsc::channel(2);
        let keeper = Keeper {
            number: self.number,
            handle: self.handle.clone(),
            clock: Clock::showing(now),
            wanted,
        };
        let request = DialRequest { path: Some(path.clone()), ..DialRequest::default() };
        let task = tokio::spawn(keeper.run(self.dialer.clone(), request, standby));
        self.state = State::Coming(path, Task { wishes, abort: task.abort_handle() });
    }

    /// The path of the spare that stands by.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.state {
            State::Ready(path, _) => Some(path),
            State::None { .. } | State::Coming(..) => None,
        }
    }

    /// The network changed: the spare may be dead, or another may be possible.
    pub(super) fn handle_change(&mut self) {
        match &mut self.state {
            // If there is no room, the same was asked just now.
            State::Ready(_, task) => drop(task.wishes.try_send(Wish::Probe)),
            State::None { again } => *again = Instant::now(),
            State::Coming(..) => {}
        }
    }

    /// Asks for the spare, if it stands by: [`SpareNews::Taken`] follows.
    pub(super) fn take(&mut self) {
        if let State::Ready(_, task) = &self.state {
            // If there is no room, it was asked for just now.
            let _ = task.wishes.try_send(Wish::Take);
        }
    }

    /// News of the spare with this number. Says whether they are of the present
    /// one.
    pub(super) fn handle_news(&mut self, number: u64, news: &SpareNews) -> bool {
        if number != self.number {
            return false;
        }
        match news {
            SpareNews::Ready => {
                let state = std::mem::replace(&mut self.state, rested(PAUSE));
                self.state = match state {
                    State::Coming(path, task) => {
                        info!("a spare carrier stands by over {path}");
                        State::Ready(path, task)
                    }
                    other => other,
                };
            }
            SpareNews::Taken(_) => self.rest(Duration::ZERO),
            SpareNews::Lost(why) => {
                if let State::Ready(path, _) = &self.state {
                    info!("the spare carrier over {path} is lost: {why}");
                } else {
                    debug!("there is no spare carrier: {why}");
                }
                self.rest(PAUSE);
            }
        }
        true
    }

    /// There is none for a while.
    fn rest(&mut self, pause: Duration) {
        self.state = rested(pause);
    }
}

fn rested(pause: Duration) -> State {
    State::None { again: Instant::now() + pause }
}

/// Makes and keeps one spare.
struct Keeper {
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
        self.handle.send(Command::Notice(Notice::Spare(self.number, news))).await;
    }

    /// Keeps the spare until it is taken or lost.
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

/// Sends what is due; ready when something came in.
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
