//! A spare: an authenticated carrier over another interface, kept so that a dead path costs one
//! round trip.

use std::time::Duration;

use eternaltcp_proto::{CarrierId, Tunnel};
use tokio::time::Instant;
use tracing::{debug, info};

use super::event::PoolDialId;
use super::path::NetworkPath;
use super::pool_dial::{MadeCarrier, PoolDial, PoolDialer, PoolMember};
use crate::driver::Action;

/// Pause before another spare is tried.
const PAUSE: Duration = Duration::from_secs(10);

/// The spare of a client, if it has one.
#[derive(Debug)]
pub(super) struct Spare {
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is none; the time of the next attempt.
    None { again: Instant },
    /// It is being dialled.
    Dialing(NetworkPath, PoolDial),
    /// The server was asked to let it stand by.
    Asking(SpareCarrier),
    /// It stands by.
    Ready(SpareCarrier),
}

/// The carrier of a spare.
#[derive(Debug)]
struct SpareCarrier {
    id: CarrierId,
    path: NetworkPath,
    server: usize,
    /// Its segments are small.
    is_small: bool,
    /// It owes an answer.
    is_doubted: bool,
}

impl Spare {
    pub(super) fn new() -> Self {
        Self { state: State::None { again: Instant::now() } }
    }

    fn id(&self) -> Option<CarrierId> {
        match &self.state {
            State::None { .. } | State::Dialing(..) => None,
            State::Asking(carrier) | State::Ready(carrier) => Some(carrier.id),
        }
    }

    fn path(&self) -> Option<&NetworkPath> {
        match &self.state {
            State::None { .. } => None,
            State::Dialing(path, _) => Some(path),
            State::Asking(carrier) | State::Ready(carrier) => Some(&carrier.path),
        }
    }

    /// Makes a spare if there is none and the server allows one, over an interface other than that
    /// of `current`.
    pub(super) fn fill(
        &mut self,
        dialer: &mut PoolDialer,
        tunnel: &Tunnel,
        current: Option<&NetworkPath>,
    ) -> Option<Action> {
        let current = current.filter(|_| tunnel.may_stand_by())?;
        match &self.state {
            State::None { again } if *again > Instant::now() => return None,
            State::None { .. } => {}
            _ if self.path().is_some_and(|path| path.interface == current.interface) => {
                debug!("the spare uses the path of the carrier: another is made");
            }
            _ => return None,
        }
        let closed = self.id().map(Action::CloseStandby);
        self.rest(PAUSE);
        if let Some(path) = dialer.dialer().path_beside(current) {
            self.state = State::Dialing(path.clone(), dialer.start(Some(path)));
        }
        closed
    }

    /// Handles the server's permission to stand by.
    pub(super) fn handle_ready(&mut self) {
        let state = std::mem::replace(&mut self.state, rested(PAUSE));
        self.state = match state {
            State::Asking(carrier) => {
                info!("a spare carrier stands by over {}", carrier.path);
                State::Ready(carrier)
            }
            other => other,
        };
    }

    /// Handles a change of the network: the spare may be dead, or one may be possible now.
    pub(super) fn handle_network(&mut self) -> Option<Action> {
        match &mut self.state {
            State::Ready(carrier) => Some(Action::ProbeStandby(carrier.id)),
            State::None { again } => {
                *again = Instant::now();
                None
            }
            State::Dialing(..) | State::Asking(_) => None,
        }
    }

    /// Handles a doubt about the carrier, or its end.
    pub(super) fn set_doubted(&mut self, is_doubted: bool) {
        if let State::Ready(carrier) = &mut self.state {
            carrier.is_doubted = is_doubted;
        }
    }

    /// Returns whether a carrier stands by that is not doubted and has small segments.
    pub(super) fn fit(&self) -> Option<bool> {
        match &self.state {
            State::Ready(carrier) if !carrier.is_doubted => Some(carrier.is_small),
            _ => None,
        }
    }

    /// Returns the carrier that stands by, and its path.
    pub(super) fn ready(&self) -> Option<(CarrierId, &NetworkPath)> {
        match &self.state {
            State::Ready(carrier) => Some((carrier.id, &carrier.path)),
            _ => None,
        }
    }

    /// Takes the carrier that stands by, its path and its server.
    pub(super) fn claim(&mut self) -> Option<(CarrierId, NetworkPath, usize)> {
        match std::mem::replace(&mut self.state, rested(Duration::ZERO)) {
            State::Ready(SpareCarrier { id, path, server, .. }) => Some((id, path, server)),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Removes the spare for a while.
    fn rest(&mut self, pause: Duration) {
        self.state = rested(pause);
    }
}

impl PoolMember for Spare {
    fn is_dialing(&self, id: PoolDialId) -> bool {
        matches!(&self.state, State::Dialing(_, dial) if dial.id() == id)
    }

    fn is(&self, id: CarrierId) -> bool {
        self.id() == Some(id)
    }

    fn handle_asked(&mut self, id: CarrierId, made: MadeCarrier) {
        let MadeCarrier { server, path, is_small, .. } = made;
        let is_doubted = false;
        self.state = State::Asking(SpareCarrier { id, path, server, is_small, is_doubted });
    }

    fn handle_lost(&mut self, why: &str) {
        match &self.state {
            State::Ready(carrier) => {
                info!("the spare carrier over {} is lost: {why}", carrier.path);
            }
            _ => debug!("there is no spare carrier: {why}"),
        }
        self.rest(PAUSE);
    }
}

fn rested(pause: Duration) -> State {
    State::None { again: Instant::now() + pause }
}
