//! The tunnels of a server, and what ends them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, Epoch, Instance, Refusal, RefusalCode, TunnelId};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::ServerLimits;
use super::keys::KeyStore;
use super::standby::Standbys;
use crate::driver::{Command, Handle, Shared};
use crate::log_limit::{LogLimit, limited};
use crate::policy::Denial;
use crate::tls::PublicKey;

/// The least that a tunnel is worth admitting with.
const LEAST_TUNNEL_LIMIT: u64 = 128 << 10;

/// A key may be granted this part of the memory.
const KEY_PART: u64 = 2;

/// Limits the lines about tunnels that are replaced.
static REPLACED: LogLimit = LogLimit::new(200);

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

    /// Tells the tunnel to close. Its queue of commands may be full: then it
    /// is asked again at the next turn.
    fn close(&self, why: Closing) {
        self.handle.try_send(Command::Close(why));
    }

    /// Tells a tunnel that is not listed any more to close, however long its
    /// queue of commands is.
    fn dismiss(self) {
        self.replaced.store(true, Ordering::Release);
        tokio::spawn(async move { self.handle.send(Command::Close(Closing::Replaced)).await });
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

    /// Takes a new tunnel in, and grants it its part of the memory.
    ///
    /// # Errors
    /// When nothing is left for it, or another client took the name since
    /// [`Self::replace_ghosts`] was asked.
    pub(super) fn insert(
        &self,
        id: TunnelId,
        mut entry: Entry,
        limits: &ServerLimits,
    ) -> Result<Entry, Refusal> {
        let mut tunnels = self.lock();
        if has_newer(&tunnels, &entry.own, entry.born) {
            return Err(outdated());
        }
        if tunnels.values().any(|other| other.is_same_client(&entry.user, &entry.instance)) {
            let advice = "another client of this name came at the same moment";
            return Err(Refusal::for_now(RefusalCode::NameTaken, advice));
        }
        entry.limit = grant(&tunnels, &entry.user, limits)?;
        tunnels.insert(id, entry.clone());
        self.was_used.store(true, Ordering::Release);
        Ok(entry)
    }

    /// Doubles what a tunnel may hold, up to the most of one; `None` if that is
    /// more than it would then leave free, in all or of its key. So many can grow
    /// at once, and none takes what others need to begin.
    pub(super) fn grow(&self, id: TunnelId, limits: &ServerLimits) -> Option<u64> {
        let mut tunnels = self.lock();
        let Entry { limit, user, .. } = tunnels.get(&id)?.clone();
        let wanted = limit.saturating_mul(2).min(limits.tunnel_memory);
        let more = wanted.saturating_sub(limit);
        let left = Memory::of(&tunnels, &user, limits).free().saturating_sub(more);
        let grows = more > 0 && wanted <= left;
        let entry = tunnels.get_mut(&id).filter(|_| grows)?;
        entry.limit = wanted;
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

    /// A live tunnel of another process of the same client and boot, which a
    /// new one may not replace. The client's other tunnels are ended: detached
    /// ones, those whose client stands still, those of an earlier boot, and one of which its own process never
    /// got the answer.
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
    ) -> Result<Option<Entry>, Refusal> {
        let mut tunnels = self.lock();
        if has_newer(&tunnels, own, epoch) {
            return Err(outdated());
        }
        let is_live = |entry: &Entry| {
            entry.shared.is_attached()
                && !entry.shared.is_silent()
                && entry.instance.boot == instance.boot
                && entry.own != *own
        };
        let mut live = None;
        let same = tunnels.iter().filter(|(_, entry)| entry.is_same_client(user, instance));
        for id in same.map(|(id, _)| *id).collect::<Vec<_>>() {
            match tunnels.remove(&id) {
                Some(entry) if is_live(&entry) => {
                    live = Some(entry.clone());
                    tunnels.insert(id, entry);
                }
                Some(entry) => {
                    let text = "replaced by a newer one of the same client";
                    limited!(&REPLACED, info, "tunnel {id}: {text}");
                    entry.dismiss();
                }
                None => {}
            }
        }
        Ok(live)
    }

    /// Ends the tunnels whose keys are not admitted any more, and the carriers
    /// that stand by at an address that is not.
    pub(super) fn judge_keys(&self, keys: &KeyStore) {
        for (id, entry) in self.lock().iter() {
            entry.standbys.judge(|from| keys.judge(&entry.user, from).is_ok());
            match keys.judge(&entry.user, entry.from()) {
                Ok(_) => {}
                Err(denial @ Denial::AddressNotAllowed { .. }) => {
                    if entry.shared.is_attached() {
                        warn!("tunnel {id}: its carrier is ended: {denial}");
                        entry.handle.try_send(Command::Detach(denial.to_string()));
                    }
                }
                Err(denial) => {
                    warn!("tunnel {id} is closed: {denial}");
                    entry.close(Closing::KeyRemoved);
                }
            }
        }
    }

    /// Ends what was detached for too long, or holds too much meanwhile.
    pub(super) fn end_detached(&self, keep: Duration, limits: &ServerLimits) {
        let mut tunnels = self.lock();
        let now = Instant::now();
        let mut detached = Vec::new();
        for (id, entry) in tunnels.iter_mut() {
            if entry.shared.is_attached() {
                entry.detached_since = None;
                continue;
            }
            let since = *entry.detached_since.get_or_insert(now);
            if now.duration_since(since) >= keep {
                warn!("tunnel {id} is closed: it was detached for too long");
                entry.close(Closing::Expired);
            } else {
                detached.push((since, *id));
            }
        }
        detached.sort_unstable();
        evict_for_memory(&tunnels, &detached, limits.memory / 2);
        evict_per_key(&tunnels, &detached, limits.detached_per_key);
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

/// What a new tunnel of this key may hold in each direction.
fn grant(
    tunnels: &BTreeMap<TunnelId, Entry>,
    user: &PublicKey,
    limits: &ServerLimits,
) -> Result<u64, Refusal> {
    let of_key = tunnels.values().filter(|entry| entry.user == *user).count();
    if of_key >= limits.tunnels_per_key {
        let advice = format!("the key has {of_key} tunnels: end some of its clients");
        return Err(Refusal::for_now(RefusalCode::LimitReached, advice));
    }
    let memory = Memory::of(tunnels, user, limits);
    // The square: many tunnels then leave room for as many more.
    let left = memory.share_left();
    let grant =
        ((limits.tunnel_memory_at_first as f64 * left * left) as u64).max(LEAST_TUNNEL_LIMIT);
    (grant <= memory.free()).then_some(grant).ok_or_else(|| {
        let advice = "the server's memory for tunnels is used up: try later";
        Refusal::for_now(RefusalCode::LimitReached, advice)
    })
}

/// What all tunnels may hold together in each direction, and how much of it they
/// were granted.
struct Memory {
    total: u64,
    granted: u64,
    /// Of that to the tunnels of one key.
    to_key: u64,
}

impl Memory {
    fn of(tunnels: &BTreeMap<TunnelId, Entry>, user: &PublicKey, limits: &ServerLimits) -> Self {
        let of_key = tunnels.values().filter(|entry| entry.user == *user);
        Self {
            // Each tunnel may hold its limit in both directions.
            total: limits.memory / 2,
            granted: tunnels.values().map(|entry| entry.limit).sum(),
            to_key: of_key.map(|entry| entry.limit).sum(),
        }
    }

    /// What is left in all, and of the key's part.
    fn left(&self) -> [(u64, u64); 2] {
        [(self.total, self.granted), (self.total / KEY_PART, self.to_key)]
    }

    fn free(&self) -> u64 {
        self.left()
            .map(|(total, granted)| total.saturating_sub(granted))
            .into_iter()
            .min()
            .unwrap_or(0)
    }

    /// The part that is free, of 1.
    fn share_left(&self) -> f64 {
        let part = |(total, granted): (u64, u64)| {
            total.saturating_sub(granted) as f64 / total.max(1) as f64
        };
        self.left().map(part).into_iter().fold(1.0, f64::min)
    }
}

/// Whether a process has a tunnel that it asked for with this epoch, or later.
fn has_newer(tunnels: &BTreeMap<TunnelId, Entry>, own: &PublicKey, epoch: Epoch) -> bool {
    tunnels.values().any(|entry| entry.own == *own && entry.born >= epoch)
}

fn outdated() -> Refusal {
    Refusal::for_now(RefusalCode::Stale, "a newer request of the same client was seen")
}

/// Detached tunnels hold half of the memory at most; the longest detached
/// ends first.
fn evict_for_memory(
    tunnels: &BTreeMap<TunnelId, Entry>,
    detached: &[(Instant, TunnelId)],
    most: u64,
) {
    let held = |id: &TunnelId| tunnels.get(id).map_or(0, |entry| entry.shared.held());
    let mut sum: u64 = detached.iter().map(|(_, id)| held(id)).sum();
    for (_, id) in detached {
        if sum <= most {
            return;
        }
        sum -= held(id);
        warn!("tunnel {id} is closed: detached tunnels hold too much memory");
        if let Some(entry) = tunnels.get(id) {
            entry.close(Closing::Evicted);
        }
    }
}

fn evict_per_key(
    tunnels: &BTreeMap<TunnelId, Entry>,
    detached: &[(Instant, TunnelId)],
    most: usize,
) {
    let mut counts: BTreeMap<&PublicKey, usize> = BTreeMap::new();
    for (_, id) in detached.iter().rev() {
        let Some(entry) = tunnels.get(id) else { continue };
        let count = counts.entry(&entry.user).or_default();
        *count += 1;
        if *count > most {
            warn!("tunnel {id} is closed: its key has {most} newer detached ones");
            entry.close(Closing::Evicted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::channel;
    use crate::tls::Identity;

    fn key() -> PublicKey {
        Identity::generate().unwrap().public_key()
    }

    fn entry(user: &PublicKey, own: &PublicKey, name: &str, born: u64) -> Entry {
        let instance = Instance { name: name.into(), ..Instance::default() };
        let from = IpAddr::from([127, 0, 0, 1]);
        Entry::new(channel(1).0, user.clone(), own.clone(), instance, from, Epoch(born))
    }

    fn insert(registry: &Registry, number: u8, entry: Entry) -> Result<Entry, Refusal> {
        registry.insert(TunnelId([number; 16]), entry, &ServerLimits::default())
    }

    #[test]
    fn grants_shrink_so_that_very_many_tunnels_find_room_and_no_key_takes_all() {
        let registry = Registry::default();
        let limits = ServerLimits { memory: 1 << 30, ..ServerLimits::default() };
        let fill = |user: &PublicKey, from: u32| {
            (from..)
                .take_while(|number| {
                    let mut id = [0; 16];
                    id[..4].copy_from_slice(&number.to_le_bytes());
                    let entry = entry(user, &key(), &number.to_string(), 1);
                    registry.insert(TunnelId(id), entry, &limits).is_ok()
                })
                .count()
        };
        assert!(fill(&key(), 0) >= 150);
        assert!(fill(&key(), 10_000) >= 150, "another key finds its half");
        let granted: u64 = registry.lock().values().map(|entry| entry.limit * 2).sum();
        assert!(granted <= limits.memory);
    }

    #[test]
    fn a_tunnel_grows_up_to_the_most_of_one_and_to_no_more_than_it_leaves_free() {
        let registry = Registry::default();
        let mib = |count: u64| count << 20;
        let limits = |memory| ServerLimits { memory, ..ServerLimits::default() };
        let user = key();
        let first = insert(&registry, 1, entry(&user, &key(), "a", 1)).unwrap();
        let id = TunnelId([1; 16]);
        let large = limits(mib(1024));
        assert_eq!(first.limit, mib(24));
        assert_eq!(registry.grow(id, &large), Some(mib(48)));
        assert_eq!(registry.grow(id, &large), Some(mib(64)));
        assert_eq!(registry.grow(id, &large), None, "that is the most of one");
        let second = TunnelId([2; 16]);
        insert(&registry, 2, entry(&user, &key(), "b", 1)).unwrap();
        // Half of the half is one key's, of which 64 and some 16 are granted: what would be
        // left is less than it would have.
        assert_eq!(registry.grow(second, &limits(mib(340))), None);
        assert!(registry.grow(second, &large).is_some());
        registry.remove(id);
        assert_eq!(registry.grow(id, &large), None, "it is over");
    }

    #[tokio::test]
    async fn a_request_that_was_stuck_on_its_way_ends_no_later_tunnel() {
        let registry = Registry::default();
        let (user, own) = (key(), key());
        let later = insert(&registry, 1, entry(&user, &own, "a", 5)).unwrap();
        let ask = |epoch| registry.replace_ghosts(&user, &own, &later.instance, Epoch(epoch));
        assert_eq!(ask(4).unwrap_err().code, RefusalCode::Stale);
        assert!(registry.find(TunnelId([1; 16]), &own).is_some());
        assert!(ask(6).unwrap().is_none());
        assert!(registry.find(TunnelId([1; 16]), &own).is_none(), "its answer was lost");
    }
}
