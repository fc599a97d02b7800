//! The tunnels of a server, and how they end.

mod entry;
mod standbys;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, Epoch, Instance, Refusal, RefusalCode, TunnelId};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::ServerLimits;
use super::event::{ServerEvent, ServerHandle};
use super::eviction::{DetachedLimits, Reason, choose};
use super::grants::{Full, Granted};
use super::keys::KeyView;
use super::notices::Notices;
use crate::log_limit::{LogLimit, limited};
use crate::metrics::ProxyLevels;
use crate::policy::Denial;
use crate::report::counted;
use eternaltcp_tls::PublicKey;

pub(super) use entry::TunnelEntry;
pub(super) use standbys::Standbys;

/// The time for which a tunnel without sessions must be detached before it is closed for a new
/// client: a tunnel that was just created is not attached yet.
const MAKES_ROOM_AFTER: Duration = Duration::from_secs(60);

/// A tunnel that had a carrier this recently is not a ghost of a machine that rebooted since, and
/// not the ghost of its process if it has sessions: after the death of its worker, or the loss of
/// its carrier, a living client returns at once.
const JUST_NOW: Duration = Duration::from_secs(3);

/// Limits the lines about replaced tunnels.
static REPLACED: LogLimit = LogLimit::new(200);

/// Time for closing all tunnels.
const CLOSE_PATIENCE: Duration = Duration::from_millis(1500);

/// All tunnels, by their ids.
#[derive(Debug, Default)]
pub(in crate::server) struct Registry {
    tunnels: Mutex<BTreeMap<TunnelId, TunnelEntry>>,
    /// Whether there was ever a tunnel, however short its life.
    was_used: AtomicBool,
}

impl Registry {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TunnelId, TunnelEntry>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tunnel with this id, if `own` is its own key: no other client's attach can find
    /// it.
    pub(in crate::server) fn find(&self, id: TunnelId, own: &PublicKey) -> Option<TunnelEntry> {
        self.lock().get(&id).filter(|entry| entry.own == *own).cloned()
    }

    /// Returns the user whose tunnel has this own key.
    pub(in crate::server) fn user_of(&self, own: &PublicKey) -> Option<PublicKey> {
        let tunnels = self.lock();
        tunnels.values().find(|entry| entry.own == *own).map(|entry| entry.user.clone())
    }

    /// Returns the source address of each tunnel's last carrier.
    pub(in crate::server) fn addresses(&self) -> Vec<IpAddr> {
        self.lock().values().map(TunnelEntry::from).collect()
    }

    /// Returns whether each tunnel is admitted, attached and quiet, so that little can change.
    pub(in crate::server) fn is_calm(&self) -> bool {
        self.lock().values().all(TunnelEntry::is_calm)
    }

    /// Returns the user of each tunnel, and the source address of its last carrier.
    pub(in crate::server) fn users(&self) -> Vec<(PublicKey, IpAddr)> {
        self.lock().values().map(|entry| (entry.user.clone(), entry.from())).collect()
    }

    /// Returns whether the tunnel exists, and was not replaced.
    pub(in crate::server) fn has(&self, id: TunnelId) -> bool {
        self.lock().contains_key(&id)
    }

    /// Adds a new tunnel, and grants it its part of the memory. If necessary, old tunnels without
    /// sessions are closed.
    ///
    /// # Errors
    /// No memory is left for it, or another client took the name since [`Self::replace_ghosts`] was
    /// called.
    pub(in crate::server) fn insert(
        &self,
        id: TunnelId,
        mut entry: TunnelEntry,
        limits: &ServerLimits,
        notices: &Notices,
    ) -> Result<TunnelEntry, Refusal> {
        let mut tunnels = self.lock();
        if has_newer(&tunnels, &entry.own, entry.born()) {
            return Err(outdated());
        }
        let takes_name = |other: &TunnelEntry| {
            other.is_same_client(&entry.user, &entry.instance)
                && other.instance.boot == entry.instance.boot
        };
        if tunnels.values().any(takes_name) {
            let advice = "another client of this name came at the same moment";
            return Err(Refusal::for_now(RefusalCode::NameTaken, advice));
        }
        let limit = loop {
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
        entry.set_limit(limit);
        tunnels.insert(id, entry.clone());
        self.was_used.store(true, Ordering::Release);
        Ok(entry)
    }

    /// Adds a recovered tunnel, which has its memory already.
    pub(in crate::server) fn insert_again(&self, id: TunnelId, entry: TunnelEntry) {
        self.lock().insert(id, entry);
        self.was_used.store(true, Ordering::Release);
    }

    /// Doubles a tunnel's grant, up to the maximum; `None` if that is more than would be left free,
    /// in total or of its key's share. Therefore many tunnels can grow at once, and none takes what
    /// others need to start.
    pub(in crate::server) fn grow(&self, id: TunnelId, limits: &ServerLimits) -> Option<u64> {
        let mut tunnels = self.lock();
        let entry = tunnels.get(&id)?;
        let wanted = granted(&tunnels, &entry.user).grow(entry.limit(), limits)?;
        tunnels.get_mut(&id)?.set_limit(wanted);
        Some(wanted)
    }

    /// Returns whether there ever was a tunnel.
    pub(in crate::server) fn was_used(&self) -> bool {
        self.was_used.load(Ordering::Acquire)
    }

    pub(in crate::server) fn remove(&self, id: TunnelId) {
        self.lock().remove(&id);
    }

    /// Returns how many tunnels there are, attached or not.
    pub(in crate::server) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Returns the handles of all tunnels' drivers.
    pub(in crate::server) fn handles(&self) -> Vec<(TunnelId, ServerHandle)> {
        self.lock().iter().map(|(id, entry)| (*id, entry.handle.clone())).collect()
    }

    /// Adds what the tunnels have at present to the figures for monitoring. The memory is that of one
    /// direction.
    pub(in crate::server) fn add_levels(&self, to: &mut ProxyLevels) -> u64 {
        let mut granted = 0;
        for entry in self.lock().values() {
            let shared = &entry.shared;
            *(if shared.is_attached() { &mut to.attached } else { &mut to.detached }) += 1;
            to.sessions += shared.sessions();
            to.held_bytes += shared.held();
            granted += entry.limit();
        }
        granted
    }

    /// Returns the number of sessions of all tunnels.
    pub(in crate::server) fn sessions(&self) -> usize {
        self.lock().values().map(|entry| entry.shared.sessions()).sum()
    }

    /// Returns the live tunnels of other processes of the same client, which a new one may not
    /// replace, regardless of their boot. Ends the client's other tunnels: detached ones to which
    /// no process returned, those whose client is stopped, and one whose answer its own process
    /// never got.
    ///
    /// # Errors
    /// The request was delayed in the network: the same process has a tunnel that it requested
    /// later.
    pub(in crate::server) fn replace_ghosts(
        &self,
        user: &PublicKey,
        own: &PublicKey,
        instance: &Instance,
        epoch: Epoch,
    ) -> Result<Vec<(TunnelId, TunnelEntry)>, Refusal> {
        let mut tunnels = self.lock();
        if has_newer(&tunnels, own, epoch) {
            return Err(outdated());
        }
        let now = Instant::now();
        let is_live = |entry: &TunnelEntry| {
            let is_heard = entry.shared.is_attached() && !entry.shared.is_silent();
            // A detached tunnel of another boot belongs to a clone of the machine that is about to
            // return, or was just created.
            let is_of_clone = entry.instance.boot != instance.boot && !entry.shared.is_attached();
            let may_return = is_of_clone || entry.shared.sessions() > 0;
            entry.own != *own && (is_heard || may_return && entry.was_here(JUST_NOW, now))
        };
        for entry in tunnels.values_mut().filter(|entry| entry.is_same_client(user, instance)) {
            entry.note_attachment(now, Duration::ZERO, false);
        }
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
                    limited!(&REPLACED, info, parent: &entry.span, "{text}");
                    entry.dismiss(Closing::Replaced);
                }
                None => {}
            }
        }
        Ok(live)
    }

    /// Ends the tunnels whose keys are no longer admitted, and the standby carriers from addresses
    /// that are no longer admitted, as far as the file has settled. `elapsed` is the time since the
    /// last call.
    pub(in crate::server) fn judge_keys(&self, keys: &KeyView, elapsed: Duration) {
        for entry in self.lock().values_mut() {
            if keys.is_settled(&entry.user, entry.from()) {
                entry.standbys.judge(|from| keys.judge(&entry.user, from).is_ok());
            }
            match entry.denial(keys, elapsed) {
                None => {}
                Some(denial @ Denial::AddressNotAllowed { .. }) => {
                    let told = keys.tell(&denial, &entry.user, entry.from());
                    entry.detach(&denial, &told);
                }
                Some(denial) => {
                    let told = keys.tell(&denial, &entry.user, entry.from());
                    warn!(parent: &entry.span, "the tunnel is closed: {told}");
                    entry.close(Closing::KeyRemoved);
                }
            }
        }
    }

    /// Ends detached tunnels, as [`choose`] decides. `elapsed` is the time since the last call, and
    /// `idle_per_key` returns how many tunnels without sessions a key may have.
    pub(in crate::server) fn end_detached(
        &self,
        elapsed: Duration,
        allowance: &DetachedLimits,
        idle_per_key: impl Fn(&PublicKey, IpAddr) -> usize,
    ) {
        let mut tunnels = self.lock();
        let now = Instant::now();
        note_detached(&mut tunnels, now, elapsed);
        let (ids, candidates): (Vec<_>, Vec<_>) = tunnels
            .iter()
            .filter_map(|(id, entry)| Some((*id, entry.candidate(now, &idle_per_key)?)))
            .unzip();
        for (place, reason) in choose(&candidates, allowance) {
            let id = ids[place];
            let Some(entry) = tunnels.get_mut(&id) else { continue };
            let why = match reason {
                Reason::Expired | Reason::Outlived | Reason::Idle => Closing::Expired,
                Reason::Memory => Closing::Evicted,
            };
            entry.end(why);
            let sessions = entry.shared.sessions();
            let sessions = counted(sessions, "session", "sessions");
            warn!(parent: &entry.span, "the tunnel is closed, with {sessions}: {reason}");
        }
    }

    /// Closes every tunnel in order, and waits briefly for that. Returns those that have not ended
    /// by then.
    pub(in crate::server) async fn close_all(&self, why: Closing) -> Vec<(TunnelId, TunnelEntry)> {
        let mut entries: Vec<_> =
            self.lock().iter().map(|(id, entry)| (*id, entry.clone())).collect();
        let all = async {
            for (_, entry) in &entries {
                entry.handle.tell(ServerEvent::Close(why)).await;
            }
            for (_, entry) in &entries {
                entry.handle.closed().await;
            }
        };
        // A tunnel that does not close in time is dropped with the process.
        let _ = timeout(CLOSE_PATIENCE, all).await;
        entries.retain(|(_, entry)| !entry.handle.is_closed());
        entries
    }
}

/// Returns the existing grants, as a tunnel of this user sees them.
fn granted(tunnels: &BTreeMap<TunnelId, TunnelEntry>, user: &PublicKey) -> Granted {
    let mut granted = Granted::default();
    for entry in tunnels.values() {
        granted.to_all += entry.limit();
        if entry.user == *user {
            granted.to_key += entry.limit();
            granted.tunnels_of_key += 1;
        }
    }
    granted
}

/// Ends the tunnel without sessions that was detached longest, if that makes room. Returns whether
/// there was one.
fn make_room(tunnels: &mut BTreeMap<TunnelId, TunnelEntry>, user: &PublicKey, full: Full) -> bool {
    let now = Instant::now();
    let counts = |entry: &TunnelEntry| !full.is_of_key() || entry.user == *user;
    let idle = tunnels
        .iter()
        .filter(|(_, entry)| counts(entry) && entry.is_idle_for(MAKES_ROOM_AFTER, now))
        .min_by_key(|(_, entry)| entry.detached_since())
        .map(|(id, _)| *id);
    let Some(entry) = idle.and_then(|id| tunnels.remove(&id)) else { return false };
    info!(
        parent: &entry.span,
        "the tunnel makes room for a new one: it has no sessions and no carrier"
    );
    entry.dismiss(Closing::Evicted);
    true
}

/// Records which tunnels are detached, and which of them another tunnel of the same client
/// outlives.
fn note_detached(tunnels: &mut BTreeMap<TunnelId, TunnelEntry>, now: Instant, elapsed: Duration) {
    let outlived = outlived(tunnels);
    for (id, entry) in tunnels.iter_mut() {
        entry.note_attachment(now, elapsed, outlived.contains(id));
    }
}

/// Returns abandoned tunnels whose client has another attached process.
fn outlived(tunnels: &BTreeMap<TunnelId, TunnelEntry>) -> BTreeSet<TunnelId> {
    let abandoned = tunnels.iter().filter(|(_, entry)| entry.is_abandoned());
    let mut homes: BTreeMap<_, Vec<TunnelId>> = BTreeMap::new();
    for (id, entry) in abandoned {
        homes.entry(entry.home()).or_default().push(*id);
    }
    if homes.is_empty() {
        return BTreeSet::new();
    }
    let live = |entry: &&TunnelEntry| entry.shared.is_attached() && !entry.shared.is_silent();
    let live = tunnels.values().filter(live);
    live.filter_map(|entry| homes.remove(&entry.home())).flatten().collect()
}

/// Returns whether a process has a tunnel that it requested with this epoch or later.
fn has_newer(tunnels: &BTreeMap<TunnelId, TunnelEntry>, own: &PublicKey, epoch: Epoch) -> bool {
    tunnels.values().any(|entry| entry.is_asked_for_since(own, epoch))
}

fn outdated() -> Refusal {
    Refusal::for_now(RefusalCode::Stale, "a newer request of the same client was seen")
}
