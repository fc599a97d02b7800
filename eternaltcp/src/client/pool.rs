//! The carriers that a client keeps in addition to the attached one: a spare, and those that join
//! it.

use eternaltcp_proto::{CarrierId, Time, Tunnel};
use tokio::sync::oneshot;

use super::dial::{Dialed, Dialer};
use super::event::ClientHandle;
use super::event::PoolDialId;
use super::joining::Joining;
use super::leaving::Leaving;
use super::left::CarrierNote;
use super::path::NetworkPath;
use super::pool_dial::{MadeCarrier, PoolDialer, PoolMember};
use super::spare::Spare;
use super::{ClientConfig, DialError};
use crate::driver::{Action, CarrierEnd, CarrierIo};

/// The carriers that a client keeps in addition to the attached one.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: PoolDialer,
    /// The spare carrier, if one is kept.
    spare: Option<Spare>,
    /// The carriers that join, if more than one is wanted.
    joining: Option<Joining>,
    /// The carrier for the next process.
    leaving: Leaving,
}

impl Pool {
    /// Creates a pool. Through a program each further carrier would be one more log-in on the same
    /// path, so none joins there.
    pub(super) fn new(config: &ClientConfig, dialer: Dialer, handle: ClientHandle) -> Self {
        let joining = config.carriers.saturating_sub(1).min(config.tunnel.max_joined);
        let is_joined = joining > 0 && config.via.is_none();
        Self {
            dialer: PoolDialer::new(dialer, handle),
            spare: config.spare.then(Spare::new),
            joining: is_joined.then(|| Joining::new(joining)),
            leaving: Leaving::new(config.via.is_none()),
        }
    }

    /// Makes the missing carriers, in addition to the attached one, which takes the path `current`.
    pub(super) fn fill(
        &mut self,
        tunnel: &Tunnel,
        current: Option<&NetworkPath>,
    ) -> Option<Action> {
        if let Some(joining) = &mut self.joining {
            joining.fill(&mut self.dialer, tunnel, current);
        }
        self.spare.as_mut()?.fill(&mut self.dialer, tunnel, current)
    }

    /// Makes a carrier for the next process, and tells `done` when that can take it.
    pub(super) fn leave(&mut self, tunnel: &Tunnel, done: oneshot::Sender<()>) {
        self.leaving.start(&mut self.dialer, tunnel, done);
    }

    /// Handles the carrier for the next process, which has left the tunnel.
    pub(super) fn handle_left(&mut self, carrier: Option<CarrierIo>) {
        self.leaving.handle_left(carrier);
    }

    /// Returns the carrier that the next process can take.
    pub(super) fn left(&self) -> Option<&CarrierNote> {
        self.leaving.note()
    }

    /// Does the work of each second.
    pub(super) fn handle_tick(&mut self) -> Option<Action> {
        self.leaving.handle_tick()
    }

    /// Handles a change of the network: the spare may be dead, or another may be possible.
    pub(super) fn handle_network(&mut self) -> Option<Action> {
        self.spare.as_mut()?.handle_network()
    }

    /// Handles the end of a dial: asks the server to let the carrier stand by.
    pub(super) fn handle_dialed(
        &mut self,
        now: Time,
        dial: PoolDialId,
        result: Result<Box<Dialed>, DialError>,
        tunnel: &mut Tunnel,
    ) -> Option<Action> {
        let member = self.members().find(|member| member.is_dialing(dial))?;
        let config = member.standby_config(tunnel);
        let asked = result.map_err(|error| error.to_string()).and_then(|dialed| {
            let id = tunnel.stand_by(now, config).ok_or("the tunnel is not attached")?;
            Ok((id, *dialed))
        });
        match asked {
            Ok((id, Dialed { carrier, server, address, path, is_small, .. })) => {
                member.handle_asked(id, MadeCarrier { server, address, path, is_small });
                Some(Action::StandBy { id, carrier: Box::new(carrier) })
            }
            Err(why) => {
                member.handle_lost(&why);
                None
            }
        }
    }

    /// Returns the parts of the pool.
    fn members(&mut self) -> impl Iterator<Item = &mut dyn PoolMember> {
        let spare = self.spare.as_mut().map(|it| it as &mut dyn PoolMember);
        let joining = self.joining.as_mut().map(|it| it as &mut dyn PoolMember);
        let leaving: &mut dyn PoolMember = &mut self.leaving;
        spare.into_iter().chain(joining).chain([leaving])
    }

    /// Handles a carrier that now stands by.
    pub(super) fn handle_ready(
        &mut self,
        id: CarrierId,
        tunnel: &Tunnel,
        current: Option<&NetworkPath>,
    ) -> Option<Action> {
        if let Some(spare) = self.spare.as_mut().filter(|spare| spare.is(id)) {
            spare.handle_ready();
            return None;
        }
        if self.leaving.is(id) {
            return self.leaving.handle_ready();
        }
        let joining = self.joining.as_mut().filter(|it| it.is(id))?;
        Some(joining.handle_ready(&mut self.dialer, id, tunnel, current))
    }

    /// Handles a doubt about a carrier that stands by, or its end.
    pub(super) fn handle_standby_doubted(&mut self, id: CarrierId, is_doubted: bool) {
        if let Some(spare) = self.spare.as_mut().filter(|spare| spare.is(id)) {
            spare.set_doubted(is_doubted);
        }
    }

    /// Handles the loss of a carrier that was to stand by.
    pub(super) fn handle_standby_lost(&mut self, id: CarrierId, why: &str) {
        if let Some(member) = self.members().find(|member| member.is(id)) {
            member.handle_lost(why);
        }
    }

    /// Handles a doubt about the carriers, or its end.
    pub(super) fn handle_suspected(&mut self, tunnel: &Tunnel) {
        if let Some(joining) = &mut self.joining {
            joining.handle_suspected(tunnel.joined_silent_since().is_some());
        }
    }

    /// Handles the attach of another carrier.
    pub(super) fn handle_attached(&mut self) {
        if let Some(joining) = &mut self.joining {
            joining.handle_attached();
        }
    }

    /// Handles the loss of the attached carrier.
    pub(super) fn handle_lost(&mut self, end: &CarrierEnd) {
        if let Some(joining) = &mut self.joining {
            joining.handle_attached_lost(matches!(end, CarrierEnd::Joined(_)));
        }
    }

    /// Returns whether the segments of the spare are small, if one stands by that is not doubted.
    pub(super) fn fit_spare(&self) -> Option<bool> {
        self.spare.as_ref()?.fit()
    }

    /// Returns the spare that stands by, and its path.
    pub(super) fn spare(&self) -> Option<(CarrierId, &NetworkPath)> {
        self.spare.as_ref()?.ready()
    }

    /// Takes the spare out of the pool: the carrier, its path and its server.
    pub(super) fn claim_spare(&mut self) -> Option<(CarrierId, NetworkPath, usize)> {
        self.spare.as_mut()?.claim()
    }
}
