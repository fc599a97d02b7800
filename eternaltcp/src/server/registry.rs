//! The tunnels of a server, and what ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, Epoch, Instance, Refusal, RefusalCode, TunnelId};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::ServerLimits;
use super::eviction::{Allowance, Candidate, Reason, choose};
use super::grants::{Full, Granted};
use super::keys::View;
use super::notices::Notices;
use super::standby::Standbys;
use crate::driver::{Command, Handle, Shared};
use crate::log_limit::{LogLimit, limited};
use crate::policy::Denial;
use crate::report::counted;
use eternaltcp_tls::PublicKey;

/// A tunnel without sessions was detached for this long before it makes room for a new client:
/// one that was just made is not attached yet.
const MAKES_ROOM_AFTER: Duration = Duration::from_secs(60);

/// A tunnel that had a carrier so short a time ago is no ghost of a machine that was
/// started again since.
const JUST_NOW: Duration = Duration::from_secs(3);

/// Limits the lines about tunnels that are replaced.
static REPLACED: LogLimit = LogLimit::new(200);

/// A tunnel ends that every look at a changing file denied for this long, though it has not settled.
const SETTLED_AT_LAST: Duration = Duration::from_secs(300);

/// How long closing all tunnels may take.
const CLOSE_PATIENCE: Duration = Duration::from_millis(1500);

/// A tunnel as the registry knows it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) handle: Handle,
    pub(super) shared: Arc<Shared>,
    /// The key that was let in.
    pub(super) user: PublicKey,
    /// The tunnel's own key, which later carriers prove.
    pub(super) own: PublicKey,
    pub(super) instance: Instance,
    /// Where the last carrier came from.
    pub(super) from: Arc<Mutex<IpAddr>>,
    /// Its places for carriers that stand by.
    pub(super) standbys: Standbys,
    /// The epoch of the request that it was made for.
    born: Epoch,
    /// What the tunnel may hold, in each direction: set by [`Registry::insert`].
    pub(super) limit: u64,
    detached_since: Option<Instant>,
    /// How long another process of the same client was attached meanwhile.
    outlived_for: Duration,
    /// For how long every look at the authorized keys has denied it.
    denied_for: Duration,
    /// It was told to end.
    is_ending: bool,
    /// Whether the client's end closed the last carrier.
    was_closed: Arc<AtomicBool>,
    /// A newer tunnel of the same client took its place.
    replaced: Arc<AtomicBool>,
}

impl Entry {
    pub(super) fn new(
        handle: Handle,
        user: PublicKey,
        own: PublicKey,
        instance: Instance,
        from: IpAddr,
        born: Epoch,
    ) -> Self {
        Self {
            handle,
            shared: Arc::new(Shared::default()),
            user,
            own,
            instance,
            from: Arc::new(Mutex::new(from)),
            standbys: Standbys::default(),
            born,
            limit: 0,
            detached_since: None,
            outlived_for: Duration::ZERO,
            denied_for: Duration::ZERO,
            is_ending: false,
            was_closed: Arc::default(),
            replaced: Arc::default(),
        }
    }

    pub(super) fn from(&self) -> IpAddr {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_from(&self, from: IpAddr) {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner) = from;
    }

    /// Whether a newer tunnel of the same client took its place.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// Notes whether the client's own end closed the last carrier.
    pub(super) fn note_end(&self, is_by_client: bool) {
        self.was_closed.store(is_by_client, Ordering::Release);
    }

    /// Why the tunnel may not go on, if it may not, `elapsed` after the last
    /// question.
    fn denial(&mut self, keys: &View, elapsed: Duration) -> Option<Denial> {
        let Err(denial) = keys.judge_latest(&self.user, self.from()) else {
            self.denied_for = Duration::ZERO;
            return None;
        };
        if keys.is_readable() {
            self.denied_for += elapsed;
        }
        let is_denied = keys.judge(&self.user, self.from()).is_err();
        let is_final = is_denied && keys.is_final(&denial);
        (is_final || self.denied_for >= SETTLED_AT_LAST).then_some(denial)
    }

    /// Tells the tunnel to give its carrier up.
    fn detach(&self, id: TunnelId, denial: &Denial) {
        if self.shared.is_attached() {
            warn!("tunnel {id}: its carrier is ended: {denial}");
            self.handle.try_send(Command::Detach(denial.to_string()));
        }
    }

    /// Tells the tunnel to close. Its queue of commands may be full: then it
    /// is asked again at the next turn. Says whether it was told.
    fn close(&self, why: Closing) -> bool {
        self.handle.try_send(Command::Close(why))
    }

    /// Tells a tunnel that is not listed any more to close, however long its
    /// queue of commands is.
    fn dismiss(self, why: Closing) {
        self.replaced.store(why == Closing::Replaced, Ordering::Release);
        tokio::spawn(async move { self.handle.send(Command::Close(why)).await });
    }

    /// What the processes of one client have in common: a key, a machine that is up since the
    /// same boot, a user, and an address.
    fn home(&self) -> (&PublicKey, Instance, IpAddr) {
        let mut instance = self.instance.clone();
        std::mem::take(&mut instance.name);
        (&self.user, instance, self.from())
    }

    /// Whether it is detached because the client's own end closed its carrier.
    fn is_abandoned(&self) -> bool {
        let was_closed = self.was_closed.load(Ordering::Acquire);
        was_closed && self.detached_since.is_some() && !self.shared.is_attached()
    }

    /// Whether it has no sessions, and no carrier for so long.
    fn is_idle_for(&self, time: Duration, now: Instant) -> bool {
        let is_detached = !self.shared.is_attached() && self.shared.sessions() == 0;
        is_detached && self.detached_since.is_some_and(|since| now.duration_since(since) >= time)
    }

    /// Whether it had a carrier so short a time ago.
    fn was_here(&self, time: Duration, now: Instant) -> bool {
        self.detached_since.is_none_or(|since| now.duration_since(since) < time)
    }

    pub(super) fn is_same_client(&self, user: &PublicKey, instance: &Instance) -> bool {
        self.user == *user
            && self.instance.machine == instance.machine
            && self.instance.user == instance.user
            && self.instance.name == instance.name
    }
}

/// All tunnels, by their ids.
#[derive(Debug, Default)]
pub(super) struct Registry {
    tunnels: Mutex<BTreeMap<TunnelId, Entry>>,
    /// There was one, however short its life.
    was_used: AtomicBool,
}

impl Registry {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TunnelId, Entry>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tunnel with this id, if `own` is its own key: nobody else's attach
    /// can find it.
    pub(super) fn find(&self, id: TunnelId, own: &PublicKey) -> Option<Entry> {
        self.lock().get(&id).filter(|entry| entry.own == *own).cloned()
    }

    /// The user whose tunnel has this own key.
    pub(super) fn user_of(&self, own: &PublicKey) -> Option<PublicKey> {
        let tunnels = self.lock();
        tunnels.values().find(|entry| entry.own == *own).map(|entry| entry.user.clone())
    }

    /// Where the last carrier of each tunnel came from.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.lock().values().map(Entry::from).collect()
    }

    /// Whether the tunnel is there, and was not replaced.
    pub(super) fn has(&self, id: TunnelId) -> bool {
        self.lock().contains_key(&id)
    }

    /// Takes a new tunnel in, and grants it its part of the memory. Old tunnels without sessions
    /// make room for it if need be.
    ///
    /// # Errors
    /// When nothing is left for it, or another client took the name since
    /// [`Self::replace_ghosts`] was asked.
    pub(super) fn insert(
        &self,
        id: TunnelId,
        mut entry: Entry,
        limits: &ServerLimits,
        notices: &Notices,
    ) -> Result<Entry, Refusal> {
        let mut tunnels = self.lock();
        if has_newer(&tunnels, &entry.own, entry.born) {
            return Err(outdated());
        }
        let takes_name = |other: &Entry| {
            other.is_same_client(&entry.user, &entry.instance)
                && other.instance.boot == entry.instance.boot
        };
        if tunnels.values().any(takes_name) {
            let advice = "another client of this name came at the same moment";
            return Err(Refusal::for_now(RefusalCode::NameTaken, advice));
        }
        entry.limit = loop {
            match granted(&tunnels, &entry.user).grant(limits) {
                Ok(grant) => break grant,
                Err(full) if make_room(&mut tunnels, &entry.user, full) => {}
                Err(full) => {
                    let refusal = full.refusal();
                    notices.reached(full.flag(), format_args!("a client is refused: {refusal}"));
                    return Err(refusal);
                }
            }
        };
        tunnels.insert(id, entry.clone());
        self.was_used.store(true, Ordering::Release);
        Ok(entry)
    }

    /// Doubles what a tunnel may hold, up to the most of one; `None` if that is
    /// more than it would then leave free, in all or of its key. So many can grow
    /// at once, and none takes what others need to begin.
    pub(super) fn grow(&self, id: TunnelId, limits: &ServerLimits) -> Option<u64> {
        let mut tunnels = self.lock();
        let entry = tunnels.get(&id)?;
        let wanted = granted(&tunnels, &entry.user).grow(entry.limit, limits)?;
        tunnels.get_mut(&id)?.limit = wanted;
        Some(wanted)
    }

    /// Whether there was ever a tunnel.
    pub(super) fn was_used(&self) -> bool {
        self.was_used.load(Ordering::Acquire)
    }

    pub(super) fn remove(&self, id: TunnelId) {
        self.lock().remove(&id);
    }

    /// How many tunnels there are, attached or not.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// The ways to the drivers of all tunnels.
    pub(super) fn handles(&self) -> Vec<(TunnelId, Handle)> {
        self.lock().iter().map(|(id, entry)| (*id, entry.handle.clone())).collect()
    }

    /// Sessions of all tunnels.
    pub(super) fn sessions(&self) -> usize {
        self.lock().values().map(|entry| entry.shared.sessions()).sum()
    }

    /// The live tunnels of other processes of the same client, which a new one may
    /// not replace, whatever their boot is. The client's other tunnels are ended:
    /// detached ones, those whose client stands still, and one of which its own
    /// process never got the answer.
    ///
    /// # Errors
    /// When the request was stuck on its way: the same process has a tunnel
    /// that it asked for later.
    pub(super) fn replace_ghosts(
        &self,
        user: &PublicKey,
        own: &PublicKey,
        instance: &Instance,
        epoch: Epoch,
    ) -> Result<Vec<(TunnelId, Entry)>, Refusal> {
        let mut tunnels = self.lock();
        if has_newer(&tunnels, own, epoch) {
            return Err(outdated());
        }
        let now = Instant::now();
        let is_live = |entry: &Entry| {
            let is_heard = match entry.shared.is_attached() {
                true => !entry.shared.is_silent(),
                // Of another boot: a clone that is about to come back, or was just made.
                false => entry.instance.boot != instance.boot && entry.was_here(JUST_NOW, now),
            };
            is_heard && entry.own != *own
        };
        let mut live = Vec::new();
        let same = tunnels.iter().filter(|(_, entry)| entry.is_same_client(user, instance));
        for id in same.map(|(id, _)| *id).collect::<Vec<_>>() {
            match tunnels.remove(&id) {
                Some(entry) if is_live(&entry) => {
                    live.push((id, entry.clone()));
                    tunnels.insert(id, entry);
                }
                Some(entry) => {
                    let text = "replaced by a newer one of the same client";
                    limited!(&REPLACED, info, "tunnel {id}: {text}");
                    entry.dismiss(Closing::Replaced);
                }
                None => {}
            }
        }
        Ok(live)
    }

    /// Ends the tunnels whose keys are not admitted any more, and the carriers
    /// that stand by at an address that is not, as far as the file has settled.
    /// `elapsed` is the time since the last call.
    pub(super) fn judge_keys(&self, keys: &View, elapsed: Duration) {
        for (id, entry) in self.lock().iter_mut() {
            if keys.is_settled() {
                entry.standbys.judge(|from| keys.judge(&entry.user, from).is_ok());
            }
            match entry.denial(keys, elapsed) {
                None => {}
                Some(denial @ Denial::AddressNotAllowed { .. }) => entry.detach(*id, &denial),
                Some(denial) => {
                    warn!("tunnel {id} is closed: {denial}");
                    entry.close(Closing::KeyRemoved);
                }
            }
        }
    }

    /// Ends detached tunnels, as [`choose`] decides. `elapsed` is the time since the last call.
    pub(super) fn end_detached(&self, elapsed: Duration, allowance: &Allowance) {
        let mut tunnels = self.lock();
        let now = Instant::now();
        note_detached(&mut tunnels, now, elapsed);
        let detached = tunnels.iter().filter(|(_, entry)| !entry.is_ending);
        let (ids, candidates): (Vec<_>, Vec<_>) = detached
            .filter_map(|(id, entry)| {
                let candidate = Candidate {
                    key: &entry.user,
                    detached_for: now.duration_since(entry.detached_since?),
                    held: entry.shared.held(),
                    sessions: entry.shared.sessions(),
                    outlived_for: entry.outlived_for,
                };
                Some((*id, candidate))
            })
            .unzip();
        for (place, reason) in choose(&candidates, allowance) {
            let id = ids[place];
            let Some(entry) = tunnels.get_mut(&id) else { continue };
            let why = match reason {
                Reason::Expired | Reason::Outlived | Reason::Idle => Closing::Expired,
                Reason::Memory => Closing::Evicted,
            };
            entry.is_ending = entry.close(why);
            let sessions = entry.shared.sessions();
            let sessions = counted(sessions, "session", "sessions");
            warn!("tunnel {id} is closed, with {sessions}: {reason}");
        }
    }

    /// Closes every tunnel in order, and waits for that a little.
    pub(super) async fn close_all(&self, why: Closing) {
        let entries: Vec<Entry> = self.lock().values().cloned().collect();
        let all = async {
            for entry in &entries {
                entry.handle.send(Command::Close(why)).await;
            }
            for entry in &entries {
                entry.handle.closed().await;
            }
        };
        // Who does not close in time is dropped with the process.
        let _ = timeout(CLOSE_PATIENCE, all).await;
    }
}

/// What is granted already, as a tunnel of this user sees it.
fn granted(tunnels: &BTreeMap<TunnelId, Entry>, user: &PublicKey) -> Granted {
    let mut granted = Granted::default();
    for entry in tunnels.values() {
        granted.to_all += entry.limit;
        if entry.user == *user {
            granted.to_key += entry.limit;
            granted.tunnels_of_key += 1;
        }
    }
    granted
}

/// Ends the tunnel without sessions that was detached longest, where that makes room. Says
/// whether there was one.
fn make_room(tunnels: &mut BTreeMap<TunnelId, Entry>, user: &PublicKey, full: Full) -> bool {
    let now = Instant::now();
    let counts = |entry: &Entry| !full.is_of_key() || entry.user == *user;
    let idle = tunnels
        .iter()
        .filter(|(_, entry)| counts(entry) && entry.is_idle_for(MAKES_ROOM_AFTER, now))
        .min_by_key(|(_, entry)| entry.detached_since)
        .map(|(id, _)| *id);
    let Some((id, entry)) = idle.and_then(|id| tunnels.remove_entry(&id)) else { return false };
    info!("tunnel {id}: makes room for a new one: it has no sessions and no carrier");
    entry.dismiss(Closing::Evicted);
    true
}

/// Notes which tunnels are detached, and which of them others of the same client outlive.
fn note_detached(tunnels: &mut BTreeMap<TunnelId, Entry>, now: Instant, elapsed: Duration) {
    let outlived = outlived(tunnels);
    for (id, entry) in tunnels.iter_mut() {
        if entry.shared.is_attached() {
            (entry.detached_since, entry.outlived_for) = (None, Duration::ZERO);
            continue;
        }
        entry.detached_since.get_or_insert(now);
        if outlived.contains(id) {
            entry.outlived_for += elapsed;
        }
    }
}

/// Abandoned tunnels of whose client another process is attached.
fn outlived(tunnels: &BTreeMap<TunnelId, Entry>) -> BTreeSet<TunnelId> {
    let abandoned = tunnels.iter().filter(|(_, entry)| entry.is_abandoned());
    let mut homes: BTreeMap<_, Vec<TunnelId>> = BTreeMap::new();
    for (id, entry) in abandoned {
        homes.entry(entry.home()).or_default().push(*id);
    }
    if homes.is_empty() {
        return BTreeSet::new();
    }
    let live = |entry: &&Entry| entry.shared.is_attached() && !entry.shared.is_silent();
    let live = tunnels.values().filter(live);
    live.filter_map(|entry| homes.remove(&entry.home())).flatten().collect()
}

/// Whether a process has a tunnel that it asked for with this epoch, or later.
fn has_newer(tunnels: &BTreeMap<TunnelId, Entry>, own: &PublicKey, epoch: Epoch) -> bool {
    tunnels.values().any(|entry| entry.own == *own && entry.born >= epoch)
}

fn outdated() -> Refusal {
    Refusal::for_now(RefusalCode::Stale, "a newer request of the same client was seen")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::channel;
    use eternaltcp_tls::Identity;
    use tokio::time::advance;

    fn key() -> PublicKey {
        Identity::generate().unwrap().public_key()
    }

    fn entry(user: &PublicKey, own: &PublicKey, name: &str, born: u64) -> Entry {
        let instance = Instance { name: name.into(), ..Instance::default() };
        let from = IpAddr::from([127, 0, 0, 1]);
        Entry::new(channel(1).0, user.clone(), own.clone(), instance, from, Epoch(born))
    }

    fn insert(registry: &Registry, number: u8, entry: Entry) -> Result<Entry, Refusal> {
        registry.insert(
            TunnelId([number; 16]),
            entry,
            &ServerLimits::default(),
            &Notices::default(),
        )
    }

    #[test]
    fn a_tunnel_grows_while_there_is_memory_and_while_it_lives() {
        let (registry, limits) = (Registry::default(), ServerLimits::default());
        let id = TunnelId([1; 16]);
        let first = insert(&registry, 1, entry(&key(), &key(), "a", 1)).unwrap();
        assert_eq!(registry.grow(id, &limits), Some(first.limit * 2));
        let small = ServerLimits { memory: first.limit * 8, ..limits.clone() };
        assert_eq!(registry.grow(id, &small), None, "it would leave too little");
        registry.remove(id);
        assert_eq!(registry.grow(id, &limits), None, "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_detached_tunnel_without_sessions_makes_room_for_a_new_client_of_its_key() {
        let registry = Registry::default();
        let limits = ServerLimits { tunnels_per_key: 1, ..ServerLimits::default() };
        let allowance = allowance();
        let add = |number: u8, user: &PublicKey| {
            let entry = entry(user, &key(), &number.to_string(), 1);
            registry.insert(TunnelId([number; 16]), entry, &limits, &Notices::default()).is_ok()
        };
        let (user, other) = (key(), key());
        assert!(add(1, &user) && add(2, &other));
        registry.end_detached(Duration::ZERO, &allowance);
        assert!(!add(3, &user), "the first may be about to attach");
        advance(MAKES_ROOM_AFTER).await;
        assert!(add(3, &user));
        assert!(!registry.has(TunnelId([1; 16])) && registry.has(TunnelId([2; 16])));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_others_of_its_client_outlive_ends_if_its_own_end_closed_it() {
        let registry = Registry::default();
        let (user, allowance) = (key(), allowance());
        let [mut lost, mut killed, mut live] =
            ["lost", "killed", "live"].map(|name| entry(&user, &key(), name, 1));
        let commands: Vec<_> = [&mut lost, &mut killed, &mut live]
            .into_iter()
            .zip(1..)
            .map(|(entry, number)| {
                let (handle, commands) = channel(1);
                entry.handle = handle;
                entry.shared.set_sessions(1);
                insert(&registry, number, entry.clone()).unwrap();
                commands
            })
            .collect();
        let [mut lost_hears, mut killed_hears, _] = <[_; 3]>::try_from(commands).unwrap();
        live.shared.set_attached(true);
        lost.note_end(false);
        killed.note_end(true);
        let second = Duration::from_secs(1);
        for _ in 0..=allowance.keep_ghosts.as_secs() {
            assert!(killed_hears.try_recv().is_err(), "not yet");
            registry.end_detached(second, &allowance);
            advance(second).await;
        }
        assert!(matches!(killed_hears.try_recv(), Ok(Command::Close(Closing::Expired))));
        assert!(lost_hears.try_recv().is_err(), "its client may be stopped, or elsewhere");
        registry.end_detached(second, &allowance);
        assert!(killed_hears.try_recv().is_err(), "it was told");
    }

    fn allowance() -> Allowance {
        let keep_ghosts = Duration::from_secs(600);
        Allowance { keep: Duration::MAX, keep_ghosts, idle_per_key: 64, memory: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_is_live_is_no_ghost_of_another_boot_and_a_silent_one_is() {
        let registry = Registry::default();
        let user = key();
        let of_boot = |boot: &str| {
            let mut entry = entry(&user, &key(), "same", 1);
            entry.instance.boot = boot.into();
            entry
        };
        let first = insert(&registry, 1, of_boot("a")).unwrap();
        first.shared.set_attached(true);
        let second = of_boot("b");
        let ask = |entry: &Entry| {
            let found = registry.replace_ghosts(&user, &entry.own, &entry.instance, entry.born);
            found.unwrap().len()
        };
        assert_eq!(ask(&second), 1);
        let second = insert(&registry, 2, second).unwrap();
        second.shared.set_attached(true);
        let again = insert(&registry, 3, of_boot("a")).unwrap_err();
        assert_eq!(again.code, RefusalCode::NameTaken);
        first.shared.set_attached(false);
        assert_eq!(ask(&of_boot("c")), 2, "its client may be on the move");
        registry.end_detached(Duration::ZERO, &allowance());
        advance(JUST_NOW).await;
        assert_eq!(ask(&of_boot("c")), 1);
        assert!(!registry.has(TunnelId([1; 16])) && registry.has(TunnelId([2; 16])));
    }

    #[tokio::test]
    async fn a_request_that_was_stuck_on_its_way_ends_no_later_tunnel() {
        let registry = Registry::default();
        let (user, own) = (key(), key());
        let later = insert(&registry, 1, entry(&user, &own, "a", 5)).unwrap();
        let ask = |epoch| registry.replace_ghosts(&user, &own, &later.instance, Epoch(epoch));
        assert_eq!(ask(4).unwrap_err().code, RefusalCode::Stale);
        assert!(registry.find(TunnelId([1; 16]), &own).is_some());
        assert!(ask(6).unwrap().is_empty());
        assert!(registry.find(TunnelId([1; 16]), &own).is_none(), "its answer was lost");
    }
}
