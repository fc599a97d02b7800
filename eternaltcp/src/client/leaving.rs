//! A carrier for the next process: made before this process is replaced, so that the next one needs
//! one round trip to attach.
//!
//! It stands by at the server. Then the tunnel forgets it, and the secrets of its connection become
//! part of the tunnel's note. From then on this process sends nothing on it. Its socket stays open
//! if this process is killed.

use std::net::TcpStream;
use std::time::Duration;

use eternaltcp_proto::{CarrierId, Tunnel};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info};

use super::event::PoolDialId;
use super::left::CarrierNote;
use super::pool_dial::{MadeCarrier, PoolDial, PoolDialer, PoolMember};
use crate::driver::{Action, CarrierIo};

/// The time after which a carrier that no process has taken is closed.
const LIFETIME: Duration = Duration::from_secs(10);

/// The carrier for the next process, if there is one.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Carriers through a program end with this process.
    is_possible: bool,
    state: LeavingStage,
}

/// Tells the requester that the carrier is there. Dropping it reports a failure.
type Done = oneshot::Sender<()>;

#[derive(Debug)]
enum LeavingStage {
    None,
    /// It is being dialled.
    Dialing(PoolDial, Done),
    /// The server was asked to let it stand by.
    Asking(CarrierId, MadeCarrier, Done),
    /// It has left the tunnel.
    Leaving(MadeCarrier),
    /// The next process can take it.
    Left(Box<LeftCarrier>),
}

/// A carrier without its tunnel. Its socket is closed when this is dropped.
#[derive(Debug)]
struct LeftCarrier {
    note: CarrierNote,
    _socket: TcpStream,
    since: Instant,
}

impl Leaving {
    pub(super) fn new(is_possible: bool) -> Self {
        Self { is_possible, state: LeavingStage::None }
    }

    /// Begins to make a carrier, in place of an earlier one.
    pub(super) fn start(&mut self, dialer: &mut PoolDialer, tunnel: &Tunnel, done: Done) {
        self.state = LeavingStage::None;
        if !self.is_possible || !tunnel.may_stand_by() {
            return debug!("no carrier can be left to the next process");
        }
        self.state = LeavingStage::Dialing(dialer.start_continuable(), done);
    }

    /// Handles the server's permission to stand by: the carrier leaves the tunnel.
    pub(super) fn handle_ready(&mut self) -> Option<Action> {
        match std::mem::replace(&mut self.state, LeavingStage::None) {
            LeavingStage::Asking(id, made, done) => {
                self.state = LeavingStage::Leaving(made);
                Some(Action::Leave(id, done))
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Handles the carrier that has left the tunnel. The driver keeps [`Self::note`] after this.
    pub(super) fn handle_left(&mut self, carrier: Option<CarrierIo>) {
        let LeavingStage::Leaving(made) = std::mem::replace(&mut self.state, LeavingStage::None)
        else {
            return;
        };
        let Some(left) = carrier.and_then(|carrier| LeftCarrier::new(made, carrier)) else {
            return debug!("a carrier cannot be left to the next process");
        };
        info!("a carrier over {} stands by for the next process", left.note.path);
        self.state = LeavingStage::Left(Box::new(left));
    }

    /// Does the work of each second: closes a carrier that no process has taken, because this one
    /// was not replaced.
    pub(super) fn handle_tick(&mut self) -> Option<Action> {
        let LeavingStage::Left(left) = &self.state else { return None };
        (left.since.elapsed() >= LIFETIME).then(|| {
            debug!("no process has taken the carrier that stood by");
            self.state = LeavingStage::None;
            Action::Keep
        })
    }

    /// Returns the carrier for the next process.
    pub(super) fn note(&self) -> Option<&CarrierNote> {
        match &self.state {
            LeavingStage::Left(left) => Some(&left.note),
            _ => None,
        }
    }
}

impl PoolMember for Leaving {
    fn is_dialing(&self, id: PoolDialId) -> bool {
        matches!(&self.state, LeavingStage::Dialing(dial, _) if dial.id() == id)
    }

    fn is(&self, id: CarrierId) -> bool {
        matches!(&self.state, LeavingStage::Asking(it, ..) if *it == id)
    }

    fn handle_asked(&mut self, id: CarrierId, made: MadeCarrier) {
        let state = std::mem::replace(&mut self.state, LeavingStage::None);
        if let LeavingStage::Dialing(_, done) = state {
            self.state = LeavingStage::Asking(id, made, done);
        }
    }

    fn handle_lost(&mut self, why: &str) {
        info!("no carrier stands by for the next process: {why}");
        self.state = LeavingStage::None;
    }
}

impl LeftCarrier {
    fn new(made: MadeCarrier, carrier: CarrierIo) -> Option<Self> {
        let MadeCarrier { server, address, path, is_small } = made;
        let is_relayed = carrier.is_relayed();
        let (socket, continuation) = carrier.into_continuation()?;
        let socket = socket.into_std().ok()?;
        let cookie = cookie(&socket)?;
        let note =
            CarrierNote { cookie, server, address, path, is_small, is_relayed, continuation };
        Some(Self { note, _socket: socket, since: Instant::now() })
    }
}

#[cfg(target_os = "linux")]
fn cookie(socket: &TcpStream) -> Option<u64> {
    use std::os::fd::AsFd;
    eternaltcp_sys::cookie(socket.as_fd()).ok()
}

/// Returns nothing: there is no next process.
#[cfg(not(target_os = "linux"))]
fn cookie(_: &TcpStream) -> Option<u64> {
    None
}
