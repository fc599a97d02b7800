//! The number of descriptors, and their distribution.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tracing::warn;

use crate::fair::max_of_one;
use crate::notice::Notice;
use crate::report::counted;
use eternaltcp_tls::PublicKey;

/// The number of descriptors that are never given to sessions, whatever the limit: the standard
/// ones, listeners, those of the runtime, files, and some carriers.
const MIN_RESERVE: u64 = 64;

/// The part of all descriptors that is reserved for carriers without a tunnel.
const RESERVED_PART: u64 = 8;

/// The part of a server's places that is reserved for tunnels and their carriers.
const TUNNELS_PART: usize = 8;

/// The places for sockets of sessions and tunnels. Carriers that are not
/// admitted yet have a reserve of their own, and so have tunnels, so that
/// sessions cannot lock out the carrier that would end them. No key gets more
/// than half of what others leave.
///
/// All listeners, clients and servers of a process share [those of the process](Self::of_process)
/// unless they are given others.
#[derive(Clone, Debug)]
pub struct Slots {
    places: Arc<SlotPool>,
    /// The owner of the places; `None` for this process's own user, without a share.
    user: Option<Arc<PublicKey>>,
}

#[derive(Debug)]
struct SlotPool {
    state: Mutex<SlotPoolState>,
    /// Notifies of released places.
    freed: Notify,
    sessions: usize,
    carriers: usize,
    notice: Notice,
}

#[derive(Debug)]
struct SlotPoolState {
    free: SlotCounts,
    /// A part is reserved for tunnels.
    is_divided: bool,
    users: BTreeMap<PublicKey, SlotCounts>,
}

/// Places of both kinds: for everything, and only for tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SlotCounts {
    common: usize,
    tunnels: usize,
}

/// One or more places, released when dropped.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    places: Arc<SlotPool>,
    user: Option<Arc<PublicKey>>,
    counts: SlotCounts,
}

impl Slots {
    /// Returns the places that all of this process share: what its limit leaves when they are first
    /// used. To raise the limit, call
    /// [`raise_descriptor_limit`](crate::process::raise_descriptor_limit) first.
    ///
    /// # Errors
    /// The limit leaves no room for sessions.
    pub fn of_process() -> io::Result<Self> {
        static SHARED: OnceLock<Slots> = OnceLock::new();
        if let Some(shared) = SHARED.get() {
            return Ok(shared.clone());
        }
        let own = Self::from_limit()?;
        Ok(SHARED.get_or_init(|| own).clone())
    }

    /// Distributes the descriptors that this process may have now. The soft limit is 1024 on many
    /// systems: see [`raise_descriptor_limit`](crate::process::raise_descriptor_limit).
    ///
    /// # Errors
    /// The limit leaves no room for sessions.
    pub fn from_limit() -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let reserve = (limit / RESERVED_PART).max(MIN_RESERVE);
        let sessions = limit.saturating_sub(reserve);
        if sessions == 0 {
            return Err(io::Error::other(format!(
                "the limit of open files is {limit}: raise it (ulimit -n) above {MIN_RESERVE}"
            )));
        }
        Ok(Self::new(
            usize::try_from(sessions).unwrap_or(usize::MAX),
            usize::try_from(reserve / 2).unwrap_or(usize::MAX),
        ))
    }

    /// Creates `sessions` places for sessions, and `carriers` for carriers that are not admitted
    /// yet.
    #[must_use]
    pub fn new(sessions: usize, carriers: usize) -> Self {
        let free = SlotCounts { common: sessions, tunnels: 0 };
        let state = Mutex::new(SlotPoolState { free, is_divided: false, users: BTreeMap::new() });
        let (freed, notice) = (Notify::new(), Notice::default());
        Self { places: Arc::new(SlotPool { state, freed, sessions, carriers, notice }), user: None }
    }

    /// Reserves a part of the places for tunnels and their carriers, if that was not done before.
    pub(crate) fn reserve_for_tunnels(&self) {
        let mut state = self.places.lock();
        if std::mem::replace(&mut state.is_divided, true) {
            return;
        }
        let kept = state.free.common / TUNNELS_PART;
        state.free.common -= kept;
        state.free.tunnels += kept;
    }

    /// Returns the same places for a key, limited to its share.
    pub(crate) fn of_key(&self, key: &PublicKey) -> Self {
        Self { places: Arc::clone(&self.places), user: Some(Arc::new(key.clone())) }
    }

    /// Returns how many places for sessions and tunnels are in use, and how many there are.
    pub(crate) fn level(&self) -> (usize, usize) {
        let SlotCounts { common, tunnels } = self.places.lock().free;
        let most = self.places.sessions;
        (most.saturating_sub(common + tunnels), most)
    }

    /// Returns the number of places for carriers that have not proved a key.
    pub(crate) fn carriers(&self) -> usize {
        self.places.carriers
    }

    /// Returns a place for one session's socket, if one is free.
    pub(crate) fn try_take(&self) -> Option<SlotGuard> {
        self.try_take_many(1)
    }

    /// Returns a place for a socket that is open already, whatever the share of its key; `None` if
    /// none is free.
    pub(crate) fn take_again(&self) -> Option<SlotGuard> {
        self.retake(SlotCounts { common: 1, tunnels: 0 })
    }

    /// Returns a slot for a socket of an existing tunnel, whatever the share of its key; `None` if
    /// none is free.
    pub(crate) fn take_again_for_tunnel(&self) -> Option<SlotGuard> {
        self.retake(SlotCounts { common: 0, tunnels: 1 }).or_else(|| self.take_again())
    }

    /// Returns a slot for several sockets that are already open; `None` if too few are free.
    pub(crate) fn take_many_again(&self, count: usize) -> Option<SlotGuard> {
        self.retake(SlotCounts { common: count, tunnels: 0 })
    }

    fn retake(&self, counts: SlotCounts) -> Option<SlotGuard> {
        let taken = self.places.lock().retake(self.user.as_deref(), counts);
        let (places, user) = (Arc::clone(&self.places), self.user.clone());
        taken.then(|| SlotGuard { places, user, counts })
    }

    /// Returns several places at once, if that many are free.
    pub(crate) fn try_take_many(&self, count: usize) -> Option<SlotGuard> {
        let slot = self.take_now(SlotCounts { common: count, tunnels: 0 });
        if slot.is_none() {
            self.tell();
        }
        slot
    }

    /// Returns a place for a tunnel, or for one of its further carriers: a reserved one, or else
    /// one of the common ones.
    pub(crate) fn try_take_for_tunnel(&self) -> Option<SlotGuard> {
        self.take_now(SlotCounts { common: 0, tunnels: 1 }).or_else(|| self.try_take())
    }

    /// Waits for a place.
    pub(crate) async fn take(&self) -> SlotGuard {
        loop {
            // From here on a release wakes it, even before it waits.
            let freed = self.places.freed.notified();
            if let Some(slot) = self.take_now(SlotCounts { common: 1, tunnels: 0 }) {
                return slot;
            }
            freed.await;
        }
    }

    fn take_now(&self, counts: SlotCounts) -> Option<SlotGuard> {
        let taken = self.places.lock().take(self.user.as_deref(), counts);
        let (places, user) = (Arc::clone(&self.places), self.user.clone());
        taken.then(|| SlotGuard { places, user, counts })
    }

    /// Logs from time to time that a key gets no more places.
    fn tell(&self) {
        let Some(key) = &self.user else { return };
        if let Some(times) = self.places.notice.due() {
            let (free, own) = self.places.lock().counts(key);
            warn!(
                "descriptors for sessions run out ({}, now for key {key}, which has {} while {} are \
                 free): raise LimitNOFILE= or ulimit -Hn",
                counted(times, "time", "times"),
                own.common,
                free.common,
                key = key.fingerprint()
            );
        }
    }
}

impl SlotPool {
    fn lock(&self) -> MutexGuard<'_, SlotPoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotPoolState {
    fn counts(&self, key: &PublicKey) -> (SlotCounts, SlotCounts) {
        (self.free, self.users.get(key).copied().unwrap_or_default())
    }

    /// Takes places if they are free and within the user's share.
    fn take(&mut self, user: Option<&PublicKey>, wanted: SlotCounts) -> bool {
        let free = self.free;
        if wanted.common > free.common || wanted.tunnels > free.tunnels {
            return false;
        }
        if let Some(user) = user {
            let own = self.users.get(user).copied().unwrap_or_default();
            let fits =
                |wanted: usize, free, own| wanted == 0 || own + wanted <= max_of_one(free, own);
            if !fits(wanted.common, free.common, own.common)
                || !fits(wanted.tunnels, free.tunnels, own.tunnels)
            {
                return false;
            }
            self.users.insert(user.clone(), own.plus(wanted));
        }
        self.free = free.minus(wanted);
        true
    }

    /// Takes places if they are free, for sockets that already exist.
    fn retake(&mut self, user: Option<&PublicKey>, wanted: SlotCounts) -> bool {
        if wanted.common > self.free.common || wanted.tunnels > self.free.tunnels {
            return false;
        }
        if let Some(user) = user {
            let own = self.users.get(user).copied().unwrap_or_default();
            self.users.insert(user.clone(), own.plus(wanted));
        }
        self.free = self.free.minus(wanted);
        true
    }

    fn give_back(&mut self, user: Option<&PublicKey>, counts: SlotCounts) {
        self.free = self.free.plus(counts);
        let Some(user) = user else { return };
        if let Some(own) = self.users.get_mut(user) {
            *own = own.minus(counts);
            if *own == SlotCounts::default() {
                self.users.remove(user);
            }
        }
    }
}

impl SlotCounts {
    fn plus(self, other: Self) -> Self {
        let (common, tunnels) = (self.common + other.common, self.tunnels + other.tunnels);
        Self { common, tunnels }
    }

    fn minus(self, other: Self) -> Self {
        let (common, tunnels) = (self.common - other.common, self.tunnels - other.tunnels);
        Self { common, tunnels }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.places.lock().give_back(self.user.as_deref(), self.counts);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eternaltcp_tls::Identity;

    fn key() -> PublicKey {
        Identity::generate().unwrap().public_key()
    }

    fn take_all(slots: &Slots) -> Vec<SlotGuard> {
        std::iter::from_fn(|| slots.try_take()).collect()
    }

    #[test]
    fn a_key_gets_half_of_what_others_leave_and_what_it_gives_back_is_free() {
        let slots = Slots::new(160, 0);
        let greedy = slots.of_key(&key());
        let mut taken = take_all(&greedy);
        assert_eq!(taken.len(), 80);
        assert!(greedy.try_take_many(3).is_none());
        let others: Vec<_> = (0..3).map(|_| take_all(&slots.of_key(&key()))).collect();
        assert_eq!(others.iter().map(Vec::len).collect::<Vec<_>>(), [40, 20, 10]);
        taken.truncate(70);
        assert!(greedy.try_take().is_none(), "what others leave is 90 by now");
        drop(others);
        assert_eq!(take_all(&greedy).len(), 10);
        drop(taken);
        assert_eq!(take_all(&slots).len(), 160, "a client's own user has no share");
        assert!(slots.places.lock().users.is_empty());
    }

    #[test]
    fn sessions_leave_places_to_tunnels_and_their_carriers() {
        let slots = Slots::new(80, 0);
        slots.reserve_for_tunnels();
        // A second server of the process shares what the first has reserved.
        slots.reserve_for_tunnels();
        let held: Vec<_> = (0..9).flat_map(|_| take_all(&slots.of_key(&key()))).collect();
        assert_eq!(held.len(), 70);
        let greedy = slots.of_key(&key());
        let tunnels: Vec<_> = std::iter::from_fn(|| greedy.try_take_for_tunnel()).collect();
        assert_eq!(tunnels.len(), 5, "half of those kept for tunnels");
        assert!(slots.of_key(&key()).try_take_for_tunnel().is_some());
        drop(held);
        assert!(greedy.try_take_for_tunnel().is_some(), "one of those for all");
    }

    #[tokio::test]
    async fn a_waiter_gets_a_freed_place_within_its_share() {
        let slots = Slots::new(2, 0);
        let user = slots.of_key(&key());
        let first = user.try_take().unwrap();
        let waiting = tokio::spawn(async move { user.take().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "the other place is for others");
        drop(first);
        waiting.await.unwrap();
    }
}
