//! Carriers that join the attached one: made one after the other, until there
//! are as many as the user wants.

use std::time::Duration;

use eternaltcp_proto::{StandbyConfig, Time, Tunnel};
use tokio::time::Instant;
use tracing::{debug, info};

use super::dial::{DialRequest, Dialer};
use super::event::{Claimed, Handle, PoolEvent, PooledId, Purpose};
use super::path::Path;
use super::pool::Pooled;

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
    dialer: Dialer,
    handle: Handle,
    wanted: usize,
    /// The one that is made, if one is.
    coming: Option<Pooled>,
    /// Which it is: events of earlier ones are outdated.
    number: u64,
    /// When the last one joined what is attached now.
    joined_at: Option<Instant>,
    /// When the next one may be made.
    again: Instant,
    /// Troubles in a row.
    troubles: u32,
}

impl Joining {
    /// So many are wanted beside the attached one.
    pub(super) fn new(dialer: Dialer, handle: Handle, wanted: usize) -> Self {
        Self {
            dialer,
            handle,
            wanted,
            coming: None,
            number: 0,
            joined_at: None,
            again: Instant::now(),
            troubles: 0,
        }
    }

    /// Makes one more on the present path, if there are too few.
    pub(super) fn tend(&mut self, now: Time, tunnel: &Tunnel, current: Option<&Path>) {
        self.tend_beside(now, tunnel, current, tunnel.joined_count());
    }

    /// The same with so many that have joined.
    fn tend_beside(&mut self, now: Time, tunnel: &Tunnel, current: Option<&Path>, joined: usize) {
        if self.joined_at.is_some_and(|at| at.elapsed() >= SETTLED) {
            self.troubles = 0;
        }
        let is_enough = joined >= self.wanted || self.coming.is_some();
        if is_enough || self.again > Instant::now() || !tunnel.may_join() {
            return;
        }
        // What comes late behind bulk is not lost.
        let config = StandbyConfig::default();
        let patience = config.patience.max(tunnel.config().dead_after);
        let Some(standby) = tunnel.stand_by(now, StandbyConfig { patience, ..config }) else {
            return;
        };
        self.number += 1;
        let request = DialRequest { path: current.cloned(), ..DialRequest::default() };
        let id = PooledId { purpose: Purpose::Join, number: self.number };
        let (dialer, handle) = (self.dialer.clone(), self.handle.clone());
        self.coming = Some(Pooled::start(id, dialer, handle, request, standby, now));
    }

    /// Something happened to the one with this number. Gives it, once it may join.
    pub(super) fn handle_event(
        &mut self,
        now: Time,
        number: u64,
        event: PoolEvent,
        tunnel: &Tunnel,
        current: Option<&Path>,
    ) -> Option<Claimed> {
        let pooled = self.coming.as_ref().filter(|_| number == self.number)?;
        match event {
            PoolEvent::Ready => {
                pooled.claim();
                None
            }
            PoolEvent::Claimed(claimed) => {
                self.coming = None;
                if !tunnel.may_join() || current.is_some_and(|path| *path != claimed.path) {
                    debug!("the carrier over {} comes too late to join", claimed.path);
                    return None;
                }
                let joined = tunnel.joined_count() + 1;
                info!("carrier {} of {} over {} joins", joined + 1, self.wanted + 1, claimed.path);
                self.joined_at = Some(Instant::now());
                self.tend_beside(now, tunnel, current, joined);
                Some(*claimed)
            }
            PoolEvent::Lost(why) => {
                self.coming = None;
                debug!("no further carrier can join: {why}");
                self.rest();
                None
            }
        }
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
