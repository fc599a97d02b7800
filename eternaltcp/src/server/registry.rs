//! The tunnels of a server, and what ends them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, Instance, Refusal, RefusalCode, TunnelId};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::ServerLimits;
use super::keys::KeyStore;
use crate::driver::{Command, Handle, Shared};
use crate::policy::Denial;
use crate::tls::PublicKey;

/// The least that a tunnel is worth admitting with.
const LEAST_TUNNEL_LIMIT: u64 = 1 << 20;

/// What is left is shared out in eighths, so that there is always some.
const SHARE: u64 = 8;

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
    /// What the tunnel may hold, in each direction: set by [`Registry::insert`].
    pub(super) limit: u64,
    detached_since: Option<Instant>,
}

impl Entry {
    pub(super) fn new(
        handle: Handle,
        user: PublicKey,
        own: PublicKey,
        instance: Instance,
        from: IpAddr,
    ) -> Self {
        Self {
            handle,
            shared: Arc::new(Shared::default()),
            user,
            own,
            instance,
            from: Arc::new(Mutex::new(from)),
            limit: 0,
            detached_since: None,
        }
    }

    pub(super) fn from(&self) -> IpAddr {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_from(&self, from: IpAddr) {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner) = from;
    }

    /// Tells the tunnel to close. Its queue of commands may be full: then it
    /// is asked again at the next turn.
    fn close(&self, why: Closing) {
        self.handle.try_send(Command::Close(why));
    }

    fn is_same_client(&self, user: &PublicKey, instance: &Instance) -> bool {
        self.user == *user
            && self.instance.machine == instance.machine
            && self.instance.user == instance.user
            && self.instance.name == instance.name
    }
}

/// All tunnels, by their ids.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<TunnelId, Entry>>);

impl Registry {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TunnelId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tunnel with this id, if `own` is its own key: nobody else's attach
    /// can find it.
    pub(super) fn find(&self, id: TunnelId, own: &PublicKey) -> Option<Entry> {
        self.lock().get(&id).filter(|entry| entry.own == *own).cloned()
    }

    /// Takes a new tunnel in, and grants it of what is `wanted` as much as
    /// there is.
    ///
    /// # Errors
    /// When nothing is left for it, or another client took the name since
    /// [`Self::replace_ghosts`] was asked.
    pub(super) fn insert(
        &self,
        id: TunnelId,
        mut entry: Entry,
        wanted: u64,
        limits: &ServerLimits,
    ) -> Result<Entry, Refusal> {
        let mut tunnels = self.lock();
        if tunnels.values().any(|other| other.is_same_client(&entry.user, &entry.instance)) {
            let advice = "another client of this name came at the same moment";
            return Err(Refusal::for_now(RefusalCode::NameTaken, advice));
        }
        entry.limit = grant(&tunnels, &entry.user, wanted, limits)?;
        tunnels.insert(id, entry.clone());
        Ok(entry)
    }

    pub(super) fn remove(&self, id: TunnelId) {
        self.lock().remove(&id);
    }

    /// The ways to the drivers of all tunnels.
    pub(super) fn handles(&self) -> Vec<Handle> {
        self.lock().values().map(|entry| entry.handle.clone()).collect()
    }

    /// A live tunnel of the same client and the same boot, which a new one may
    /// not replace. Detached ones, and those of an earlier boot, are ended.
    pub(super) fn replace_ghosts(&self, user: &PublicKey, instance: &Instance) -> Option<Entry> {
        let mut live = None;
        self.lock().retain(|id, entry| {
            if !entry.is_same_client(user, instance) {
                return true;
            }
            if entry.shared.is_attached() && entry.instance.boot == instance.boot {
                live = Some(entry.clone());
                return true;
            }
            info!("tunnel {id}: replaced by a newer one of the same client");
            entry.close(Closing::Replaced);
            false
        });
        live
    }

    /// Ends the tunnels whose keys are not admitted any more.
    pub(super) fn judge_keys(&self, keys: &KeyStore) {
        for (id, entry) in self.lock().iter() {
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
    wanted: u64,
    limits: &ServerLimits,
) -> Result<u64, Refusal> {
    let of_key = tunnels.values().filter(|entry| entry.user == *user).count();
    if of_key >= limits.tunnels_per_key {
        let advice = format!("the key has {of_key} tunnels: end some of its clients");
        return Err(Refusal::for_now(RefusalCode::LimitReached, advice));
    }
    // Each tunnel may hold its limit in both directions.
    let granted: u64 = tunnels.values().map(|entry| entry.limit * 2).sum();
    let left = limits.memory.saturating_sub(granted) / 2;
    if left < LEAST_TUNNEL_LIMIT {
        let advice = "the server's memory for tunnels is used up: try later";
        return Err(Refusal::for_now(RefusalCode::LimitReached, advice));
    }
    Ok(wanted.min((left / SHARE).max(LEAST_TUNNEL_LIMIT)))
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
