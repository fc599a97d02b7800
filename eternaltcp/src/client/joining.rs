//! Carriers that join the attached one: made one after the other, until there
//! are as many as the user wants.

use std::time::Duration;

use eternaltcp_proto::{StandbyConfig, Tunnel};
use tokio::time::Instant;
use tracing::{debug, info};

use super::DialError;
use super::dial::Dialed;
use super::path::Path;
use super::pool::{PoolDial, PoolDialer};
use crate::driver::{Action, StandbyId};

/// How long to wait after one that could not be made, or took the others along.
/// It doubles each time.
const PAUSE: Duration = Duration::from_secs(2);

/// The longest such pause.
const MAX_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Carriers that lived so long together get on with each other.
const SETTLED: Duration = Duration::from_secs(10);

/// What ends so soon after one has joined ends because of it, it seems: some boxes
/// on the way bear only so many connections.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The carriers of a client beside the attached one.
#[derive(Debug)]
pub(super) struct Joining {
    wanted: usize,
    /// The one that is made, if one is.
    coming: Option<Coming>,
    /// When the last one joined what is attached now.
    joined_at: Option<Instant>,
    /// When the next one may be made.
    again: Instant,
    /// Troubles in a row.
    troubles: u32,
}

/// A carrier that is to join.
#[derive(Debug)]
enum Coming {
    /// It is dialled.
    Dialing(PoolDial),
    /// The server is asked for a place for it.
    Asking(StandbyId, Path),
}

impl Joining {
    /// So many are wanted beside the attached one.
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, coming: None, joined_at: None, again: Instant::now(), troubles: 0 }
    }

    /// Whether the one that is made has this id.
    pub(super) fn is(&self, id: StandbyId) -> bool {
        match &self.coming {
            None => false,
            Some(Coming::Dialing(dial)) => dial.id() == id,
            Some(Coming::Asking(its, _)) => *its == id,
        }
    }

    /// Makes one more on the present path, if there are too few.
    pub(super) fn fill(
        &mut self,
        dialer: &mut PoolDialer,
        tunnel: &Tunnel,
        current: Option<&Path>,
    ) {
        self.fill_beside(dialer, tunnel, current, tunnel.joined_count());
    }

    /// The same with so many that have joined.
    fn fill_beside(
        &mut self,
        dialer: &mut PoolDialer,
        tunnel: &Tunnel,
        current: Option<&Path>,
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

    /// The dial has ended.
    pub(super) fn handle_dialed(
        &mut self,
        id: StandbyId,
        result: Result<Box<Dialed>, DialError>,
        tunnel: &Tunnel,
    ) -> Option<Action> {
        match result {
            Ok(dialed) => {
                let Dialed { carrier, path, .. } = *dialed;
                self.coming = Some(Coming::Asking(id, path));
                // What comes late behind bulk is not lost.
                let config = StandbyConfig::default();
                let patience = config.patience.max(tunnel.config().dead_after);
                let config = StandbyConfig { patience, ..config };
                Some(Action::StandBy { id, carrier: Box::new(carrier), config })
            }
            Err(error) => {
                self.handle_standby_lost(&error.to_string());
                None
            }
        }
    }

    /// The server has given it a place: it joins, if it may still.
    pub(super) fn handle_ready(
        &mut self,
        dialer: &mut PoolDialer,
        id: StandbyId,
        tunnel: &Tunnel,
        current: Option<&Path>,
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

    /// The one that was to join is gone, or never came.
    pub(super) fn handle_standby_lost(&mut self, why: &str) {
        self.coming = None;
        debug!("no further carrier can join: {why}");
        self.rest();
    }

    /// Another carrier is attached: what had joined the one before is gone, without
    /// blame.
    pub(super) fn handle_attached(&mut self) {
        self.joined_at = None;
    }

    /// The attached carrier and all that joined it are gone; `by_joined`: because one of
    /// those ended.
    pub(super) fn handle_lost(&mut self, by_joined: bool) {
        let bearable = if by_joined { SETTLED } else { AT_ONCE };
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
