//! The local sockets of a tunnel, and how they are served.

mod ends;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{READ_SIZE, Reset, SessionId, Time, Tunnel};
use tokio::time::Instant;

use super::local::{HELD, Local, Served};
use super::metadata::Metadata;
use super::mirror::{AdoptedMark, TunnelMirror};
use super::news::NewsQueue;
use super::ready::ReadyList;
#[cfg(target_os = "linux")]
use super::resume::RecoveredSocket;
use super::revisits::Revisits;
use super::totals::TotalCounts;
use super::{Offer, Role, SessionChange};
use crate::dynamic::ProtocolRequest;
use crate::log_limit::Admit;
use crate::net::stream::Stream;
use crate::status::SessionStatus;

/// The maximum number of sockets that are served before the carrier gets its turn.
const SERVED_AT_ONCE: usize = 64;

/// The number of bytes that are read from sockets before the carrier gets its turn: they are sent
/// while they are in the processor's cache.
const READ_AT_ONCE: u64 = READ_SIZE as u64;

/// The interval at which sockets that must be reset are checked.
const RESET_PERIOD: Duration = Duration::from_millis(50);

/// The socket that a session had, if it had one.
type Removed = Option<Box<Local>>;

/// The local sockets of a tunnel, and the metadata of sessions that have none.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Each is boxed, because ascending ids leave the nodes of the tree half empty.
    locals: BTreeMap<SessionId, Box<Local>>,
    /// Metadata of sessions without a local socket.
    metadata: BTreeMap<SessionId, Metadata>,
    /// Sessions that the peer opened, until their targets are connected.
    offers: BTreeMap<SessionId, Offer>,
    /// Sessions whose sockets have a reset that waits.
    resetting: Revisits,
    /// Sessions whose sockets are not read because there is no room.
    held: Revisits,
    ready: Arc<ReadyList>,
    /// Sessions to serve again, whether or not their sockets are ready.
    again: VecDeque<SessionId>,
    mirror: TunnelMirror,
    /// Sockets to commit before they are used, each with the mark that it gets then.
    adopted: Vec<(SessionId, Option<AdoptedMark>)>,
    /// Sockets to close when the store no longer names them, those to reset with the reason. The
    /// driver closes them before it waits.
    closing: Vec<(Box<Local>, Option<Reset>)>,
    /// Sessions that began or ended, until the driver takes them.
    news: NewsQueue,
}

impl Sockets {
    pub(super) fn new(mirror: TunnelMirror) -> Self {
        Self {
            locals: BTreeMap::new(),
            metadata: BTreeMap::new(),
            offers: BTreeMap::new(),
            resetting: Revisits::new(RESET_PERIOD),
            held: Revisits::new(HELD),
            ready: Arc::new(ReadyList::default()),
            again: VecDeque::new(),
            mirror,
            adopted: Vec::new(),
            closing: Vec::new(),
            news: NewsQueue::new(),
        }
    }

    /// Returns the beginnings and ends of sessions.
    pub(super) fn news(&mut self) -> &mut NewsQueue {
        &mut self.news
    }

    /// Returns the totals of the tunnel over all processes that served it.
    pub(super) fn totals(&self, tunnel: &Tunnel) -> TotalCounts {
        self.mirror.totals(tunnel)
    }

    /// Returns the tunnel's mirror in the store.
    pub(super) fn mirror(&mut self) -> &mut TunnelMirror {
        &mut self.mirror
    }

    /// Returns the sessions with the target of each, and the address to which it is connected here,
    /// if known.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (SessionId, &Bytes, Option<SocketAddr>)> {
        let locals = self.locals.iter();
        let locals = locals.map(|(id, local)| (*id, local.metadata().target(), local.target()));
        locals.chain(self.metadata.iter().map(|(id, it)| (*id, it.target(), None)))
    }

    /// Returns the target for which a session was opened.
    pub(super) fn target(&self, id: SessionId) -> Option<&Bytes> {
        self.metadata(id).map(Metadata::target)
    }

    pub(super) fn status(&self, id: SessionId, tunnel: &Tunnel) -> Option<SessionStatus> {
        Some(self.metadata(id)?.status(id, &tunnel.session_view(id)?))
    }

    fn metadata(&self, id: SessionId) -> Option<&Metadata> {
        self.locals.get(&id).map(|local| local.metadata()).or_else(|| self.metadata.get(&id))
    }

    /// Adds a session that the peer opened and whose target is being connected.
    pub(super) fn insert_offer(&mut self, id: SessionId, offer: Offer, target: Bytes) {
        self.offers.insert(id, offer);
        self.metadata.insert(id, Metadata::offered(target));
    }

    /// Records that the target of a session is connected, or cannot be. Returns whether the session
    /// still waits for it.
    pub(super) fn remove_offer(&mut self, id: SessionId) -> bool {
        self.offers.remove(&id).is_some()
    }

    /// Serves a local connection for a session of this side.
    pub(super) fn insert_opened(
        &mut self,
        id: SessionId,
        stream: Stream,
        target: Bytes,
        asked: Option<ProtocolRequest>,
    ) {
        let metadata = Metadata::opened(&stream, target);
        let mark = self.mirror.adopt_accepted(id, &stream, &metadata, asked.as_ref());
        self.adopted.push((id, mark));
        self.insert(id, stream, metadata, asked);
    }

    /// Serves the connection to the target of a session that the peer opened.
    pub(super) fn insert_connected(&mut self, id: SessionId, stream: Stream) {
        let metadata = self.metadata.remove(&id);
        let metadata = metadata.unwrap_or_else(|| Metadata::offered(Bytes::new()));
        self.mirror.adopt_connected(id, &stream, &metadata);
        self.adopted.push((id, None));
        self.insert(id, stream, metadata, None);
    }

    fn insert(
        &mut self,
        id: SessionId,
        stream: Stream,
        metadata: Metadata,
        asked: Option<ProtocolRequest>,
    ) {
        let local = Local::new(stream, id, &self.ready, metadata, asked);
        self.news.note(id, local.metadata(), SessionChange::Opened(local.target()));
        self.locals.insert(id, Box::new(local));
        self.again.push_back(id);
    }

    /// Serves the socket of a recovered session.
    #[cfg(target_os = "linux")]
    pub(super) fn insert_recovered(&mut self, id: SessionId, found: RecoveredSocket) {
        let RecoveredSocket { stream, metadata, asked, progress } = found;
        let local = Local::new(stream, id, &self.ready, metadata, asked).resuming(progress);
        self.locals.insert(id, Box::new(local));
        self.again.push_back(id);
    }

    /// Adds the metadata of a session without a socket.
    #[cfg(target_os = "linux")]
    pub(super) fn insert_metadata(&mut self, id: SessionId, metadata: Metadata) {
        self.metadata.insert(id, metadata);
    }

    /// Returns whether some sockets must be served even if they are not ready.
    pub(super) fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    /// Serves a bounded number of sockets. Returns whether further sockets may be ready.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
        role: &mut impl Role,
    ) -> bool {
        let mut count = 0;
        let enough = tunnel.unnumbered() + READ_AT_ONCE;
        for _ in 0..self.again.len() {
            let Some(id) = self.again.pop_front() else { break };
            self.serve(id, now, tunnel, role);
            count += 1;
            if tunnel.unnumbered() >= enough {
                return true;
            }
        }
        while count < SERVED_AT_ONCE && tunnel.unnumbered() < enough {
            let Some(id) = self.ready.poll_next(cx.waker()) else { return false };
            self.serve(id, now, tunnel, role);
            count += 1;
        }
        true
    }

    /// Commits the sockets that were adopted, before the first of them is used. It is cheapest
    /// before anything else has changed.
    pub(super) fn settle_adopted(&mut self, tunnel: &mut Tunnel) {
        if !self.adopted.is_empty() {
            self.settle(tunnel);
        }
    }

    /// Commits the sockets that were adopted and released, unless a commit for a carrier has done
    /// that, and closes those that were released. Call it before the driver waits.
    pub(super) fn settle(&mut self, tunnel: &mut Tunnel) {
        if self.mirror.has_moved() {
            let _ = self.mirror.commit(tunnel);
        }
        for (id, mark) in self.adopted.drain(..) {
            if let (Some(local), Some(mark)) = (self.locals.get(&id), mark) {
                local.mark(mark);
            }
        }
        self.close_released();
    }

    /// Serves one local socket, and removes it when it has ended.
    pub(super) fn serve(
        &mut self,
        id: SessionId,
        now: Time,
        tunnel: &mut Tunnel,
        role: &mut impl Role,
    ) {
        self.settle_adopted(tunnel);
        let Some(local) = self.locals.get_mut(&id) else { return self.collect(id, now, tunnel) };
        match local.serve(now, tunnel, &mut self.mirror) {
            Served::More => self.again.push_back(id),
            Served::Open => {
                if local.is_resetting() {
                    self.resetting.insert(id);
                }
                if local.is_held() {
                    self.held.insert(id);
                }
            }
            Served::Ended => {
                let local = self.remove(id, tunnel, SessionChange::Ended);
                local.iter().for_each(|local| local.prepare_end());
                self.release(id, local, None);
            }
            Served::Broken(reset) => {
                let local = self.remove(id, tunnel, SessionChange::Broken(reset.clone()));
                tunnel.reset(now, id, reset);
                self.release(id, local, None);
            }
            Served::Abort(reset) => {
                let mut local = self.remove(id, tunnel, SessionChange::Aborted(reset.clone()));
                if let Some(local) = &mut local {
                    local.prepare_abort(&reset);
                }
                role.reset(id, &reset);
                tunnel.delivered_ending(now, id);
                self.release(id, local, Some(reset));
            }
        }
    }

    /// Returns the time at which to call [`Self::handle_timeout`] next.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        let (resetting, held) = (self.resetting.poll_timeout(), self.held.poll_timeout());
        resetting.into_iter().chain(held).min()
    }

    /// Looks after sockets that must be reset, and those that are not read because there is no
    /// room.
    pub(super) fn handle_timeout(&mut self, at: Instant, now: Time) {
        if let Some(resetting) = self.resetting.take_due(at) {
            self.again.extend(resetting.iter());
        }
        if let Some(held) = self.held.take_due(at) {
            let locals = &mut self.locals;
            held.retain(|id| {
                let Some(local) = locals.get_mut(id) else { return false };
                local.check_held(now);
                local.is_held()
            });
        }
    }

    /// Does the work of each second.
    pub(super) fn handle_tick(&mut self, now: Time, tunnel: &mut Tunnel, log: &dyn Admit) {
        self.reap_dead(now, tunnel, log);
        self.news.tick(tunnel);
        self.mirror.trim();
        if !self.metadata.is_empty() {
            self.metadata.retain(|id, _| tunnel.has_session(*id));
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests;
