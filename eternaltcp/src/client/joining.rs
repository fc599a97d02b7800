//! Carriers that join the attached one, made one after the other until the requested number is
//! reached.

use std::time::Duration;

use eternaltcp_proto::{CarrierId, StandbyConfig, Tunnel};
use tokio::time::Instant;
use tracing::{debug, info};

use super::event::PoolDialId;
use super::path::NetworkPath;
use super::pool_dial::{MadeCarrier, PoolDial, PoolDialer, PoolMember};
use crate::driver::Action;

/// Pause after a carrier that could not be made, or ended the others. It doubles each time.
const PAUSE: Duration = Duration::from_secs(2);

/// The maximum of this pause.
const MAX_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Time after which carriers are known to coexist.
const SETTLED: Duration = Duration::from_secs(10);

/// If carriers end within this time after one joined, it is taken as the cause: some devices allow
/// only a number of connections.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The carriers of a client beside the attached one.
#[derive(Debug)]
pub(super) struct Joining {
    wanted: usize,
    /// The carrier that is being made.
    coming: Option<Coming>,
    /// The time at which the last one joined the current attachment.
    joined_at: Option<Instant>,
    /// The time at which the next one may be made.
    again: Instant,
    /// Consecutive failures.
    troubles: u32,
    /// Whether the carriers are doubted because of a joined one.
    is_blamed: bool,
}

/// A carrier that is to join.
#[derive(Debug)]
enum Coming {
    /// It is dialled.
    Dialing(PoolDial),
    /// The server was asked to let it stand by.
    Asking(CarrierId, NetworkPath),
}

impl Joining {
    /// Creates the state for `wanted` carriers beside the attached one.
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            coming: None,
            joined_at: None,
            again: Instant::now(),
            troubles: 0,
            is_blamed: false,
        }
    }

    /// Makes one more on the current path, if there are too few.
    pub(super) fn fill(
        &mut self,
        dialer: &mut PoolDialer,
        tunnel: &Tunnel,
        current: Option<&NetworkPath>,
    ) {
        self.fill_beside(dialer, tunnel, current, tunnel.joined_count());
    }

    /// Makes one more carrier if there are too few, given the number that have joined.
    fn fill_beside(
        &mut self,
        dialer: &mut PoolDialer,
        tunnel: &Tunnel,
        current: Option<&NetworkPath>,
        joined: usize,
    ) {
        if self.joined_at.is_some_and(|at| at.elapsed() >= SETTLED) {
            self.troubles = 0;
        }
        let is_enough = joined >= self.wanted || self.coming.is_some();
        if !is_enough && self.again <= Instant::now() && tunnel.may_join() {
            self.coming = Some(Coming::Dialing(dialer.start(current.cloned())));
        }
    }

    /// Handles the server's permission to stand by: it joins, if it still may.
    pub(super) fn handle_ready(
        &mut self,
        dialer: &mut PoolDialer,
        id: CarrierId,
        tunnel: &Tunnel,
        current: Option<&NetworkPath>,
    ) -> Action {
        let Some(Coming::Asking(_, path)) = self.coming.take() else {
            return Action::CloseStandby(id);
        };
        if !tunnel.may_join() || current.is_some_and(|current| *current != path) {
            debug!("the carrier over {path} comes too late to join");
            return Action::CloseStandby(id);
        }
        let joined = tunnel.joined_count() + 1;
        info!("carrier {} of {} over {path} joins", joined + 1, self.wanted + 1);
        self.joined_at = Some(Instant::now());
        self.fill_beside(dialer, tunnel, current, joined);
        Action::Join(id)
    }

    /// Handles a doubt about the carriers; `is_joined` means that a joined one is the reason.
    pub(super) fn handle_suspected(&mut self, is_joined: bool) {
        self.is_blamed = is_joined;
    }

    /// Handles the attach of another carrier: those that had joined the previous one are gone. That
    /// is no failure unless a joined one was the reason.
    pub(super) fn handle_attached(&mut self) {
        let bearable = if self.is_blamed { SETTLED } else { Duration::ZERO };
        self.handle_end(bearable);
    }

    /// Handles the loss of the attached carrier and all that joined it; `by_joined` means that a
    /// joined one ended.
    pub(super) fn handle_attached_lost(&mut self, by_joined: bool) {
        self.handle_end(if by_joined { SETTLED } else { AT_ONCE });
    }

    /// Handles the end of all that have joined: it is a failure if they lived too briefly.
    fn handle_end(&mut self, bearable: Duration) {
        self.is_blamed = false;
        if self.joined_at.take().is_some_and(|at| at.elapsed() < bearable) {
            self.rest();
        }
    }

    fn rest(&mut self) {
        let pause = PAUSE.saturating_mul(1 << self.troubles.min(16)).min(MAX_PAUSE);
        self.again = Instant::now() + pause;
        self.troubles += 1;
    }
}

impl PoolMember for Joining {
    fn is_dialing(&self, id: PoolDialId) -> bool {
        matches!(&self.coming, Some(Coming::Dialing(dial)) if dial.id() == id)
    }

    fn is(&self, id: CarrierId) -> bool {
        matches!(&self.coming, Some(Coming::Asking(its, _)) if *its == id)
    }

    /// Returns a longer patience: data that arrive late behind bulk are not lost.
    fn standby_config(&self, tunnel: &Tunnel) -> StandbyConfig {
        let config = StandbyConfig::default();
        StandbyConfig { patience: config.patience.max(tunnel.config().dead_after), ..config }
    }

    fn handle_asked(&mut self, id: CarrierId, made: MadeCarrier) {
        self.coming = Some(Coming::Asking(id, made.path));
    }

    fn handle_lost(&mut self, why: &str) {
        self.coming = None;
        debug!("no further carrier can join: {why}");
        self.rest();
    }
}
