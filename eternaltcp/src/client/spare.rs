//! A standing spare: an authenticated carrier over another interface, pooled so
//! that a dead path costs one round trip.

use std::time::Duration;

use eternaltcp_proto::{StandbyConfig, Time, Tunnel};
use tokio::time::Instant;
use tracing::{debug, info};

use super::dial::{DialRequest, Dialer};
use super::event::{Handle, PoolEvent, PooledId, Purpose};
use super::path::Path;
use super::pool::Pooled;

/// How long to wait before another spare is tried.
const PAUSE: Duration = Duration::from_secs(10);

/// The spare of a client, if it has one.
#[derive(Debug)]
pub(super) struct Spare {
    dialer: Dialer,
    handle: Handle,
    state: State,
    /// Which of the spares it is: events of earlier ones are outdated.
    number: u64,
}

#[derive(Debug)]
enum State {
    /// None, and when to try again.
    None { again: Instant },
    /// It is dialled, or asks for its place.
    Coming(Path, Pooled),
    /// It stands by.
    Ready(Path, Pooled),
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
        let request = DialRequest { path: Some(path.clone()), ..DialRequest::default() };
        let id = PooledId { purpose: Purpose::Spare, number: self.number };
        let (dialer, handle) = (self.dialer.clone(), self.handle.clone());
        let pooled = Pooled::start(id, dialer, handle, request, standby, now);
        self.state = State::Coming(path, pooled);
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
            State::Ready(_, pooled) => pooled.probe(),
            State::None { again } => *again = Instant::now(),
            State::Coming(..) => {}
        }
    }

    /// Asks for the spare, if it stands by: [`PoolEvent::Claimed`] follows.
    pub(super) fn claim(&self) {
        if let State::Ready(_, pooled) = &self.state {
            pooled.claim();
        }
    }

    /// Something happened to the spare with this number. Says whether it is the present one.
    pub(super) fn handle_event(&mut self, number: u64, event: &PoolEvent) -> bool {
        if number != self.number {
            return false;
        }
        match event {
            PoolEvent::Ready => {
                let state = std::mem::replace(&mut self.state, rested(PAUSE));
                self.state = match state {
                    State::Coming(path, pooled) => {
                        info!("a spare carrier stands by over {path}");
                        State::Ready(path, pooled)
                    }
                    other => other,
                };
            }
            PoolEvent::Claimed(_) => self.rest(Duration::ZERO),
            PoolEvent::Lost(why) => {
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
