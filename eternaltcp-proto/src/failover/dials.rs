//! The dials in progress, and which of them makes room for another.

use std::time::Duration;

use super::Occasion;
use crate::time::Time;

/// A dial that is not answered makes room for a newer one after this time.
pub(super) const YIELDS: Duration = Duration::from_secs(1);

/// The time after which even the oldest unanswered dial makes room, because a path can be that
/// slow.
const OLDEST_YIELDS: Duration = Duration::from_secs(6);

/// A handshake may take this long, or twice the time that the server's machine took to answer,
/// before another dial replaces it: its path may have died.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// The patience with handshakes doubles at most this often while none succeeds.
const MAX_PATIENCE: u32 = 4;

/// One dial, by its number in this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DialId(pub u64);

/// A dial in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    pub(super) id: DialId,
    since: Time,
    pub(super) occasion: Occasion,
    /// The server's machine answered, and now the server has to.
    pub(super) is_connected: bool,
    /// The time at which another dial replaces it, if it is connected.
    replaced_at: Option<Time>,
}

/// All dials in progress.
#[derive(Debug, Default)]
pub(super) struct Dials {
    under_way: Vec<Dial>,
    /// Dials to give up.
    abandoned: Vec<DialId>,
    next_id: u64,
    /// Handshakes that took too long since the last one that succeeded.
    slow_handshakes: u32,
}

impl Dials {
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Returns whether there is such a dial.
    pub(super) fn has(&self, which: impl Fn(&Dial) -> bool) -> bool {
        self.under_way.iter().any(which)
    }

    /// Begins a dial.
    pub(super) fn start(&mut self, now: Time, occasion: Occasion) -> DialId {
        let id = DialId(self.next_id);
        self.next_id += 1;
        let dial = Dial { id, since: now, occasion, is_connected: false, replaced_at: None };
        self.under_way.push(dial);
        id
    }

    /// Records that the server's machine has answered a dial.
    pub(super) fn handle_connected(&mut self, id: DialId) {
        for dial in self.under_way.iter_mut().filter(|dial| dial.id == id) {
            dial.is_connected = true;
        }
    }

    /// Records that a handshake is complete: the next may be slow again.
    pub(super) fn handle_handshake(&mut self) {
        self.slow_handshakes = 0;
    }

    /// Gives up the dials that the server's machine has answered, because their handshakes take
    /// too long.
    pub(super) fn replace_connected(&mut self) {
        self.slow_handshakes = (self.slow_handshakes + 1).min(MAX_PATIENCE);
        self.abandon(|dial| dial.is_connected);
    }

    /// Returns a dial to give up.
    pub(super) fn poll_abandoned(&mut self) -> Option<DialId> {
        self.abandoned.pop()
    }

    /// Takes a dial that has ended, or returns `None` for one that was given up.
    pub(super) fn take(&mut self, id: DialId) -> Option<Dial> {
        let index = self.under_way.iter().position(|dial| dial.id == id)?;
        Some(self.under_way.swap_remove(index))
    }

    pub(super) fn abandon(&mut self, which: impl Fn(&Dial) -> bool) {
        let abandoned = &mut self.abandoned;
        self.under_way.retain(|dial| {
            let is_abandoned = which(dial);
            if is_abandoned {
                abandoned.push(dial.id);
            }
            !is_abandoned
        });
    }

    /// Returns the time at which to replace the dial that the server has answered, or `None` if it
    /// has answered none.
    pub(super) fn replacing_at(&mut self, now: Time) -> Option<Time> {
        let patience = 1 << self.slow_handshakes;
        let connected = self.under_way.iter_mut().filter(|dial| dial.is_connected);
        let at = |dial: &mut Dial| {
            let handshake = HANDSHAKE.max(now.since(dial.since) * 2);
            *dial.replaced_at.get_or_insert(now + handshake * patience)
        };
        connected.map(at).max()
    }

    /// Returns the unanswered dial that yields to a newer one, and the time at which it does. The
    /// oldest one waits the longest.
    pub(super) fn room_at(&self) -> Option<(Time, DialId)> {
        let mut silent: Vec<_> = self.under_way.iter().filter(|dial| !dial.is_connected).collect();
        silent.sort_by_key(|dial| dial.since);
        let patience = std::iter::once(OLDEST_YIELDS).chain(std::iter::repeat(YIELDS));
        let yields = silent.iter().zip(patience).map(|(dial, time)| (dial.since + time, dial.id));
        yields.min()
    }
}
