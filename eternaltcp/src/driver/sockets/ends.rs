//! The ends of local sockets.

use std::collections::BTreeSet;

use eternaltcp_proto::{Cause, Reset, SessionId, Time, Tunnel};

use super::super::{Role, SessionChange};
use super::{Local, Removed, Sockets};
use crate::log_limit::{Admit, limited};

impl Sockets {
    /// Releases a session's socket, and closes it after the next commit.
    pub(super) fn release(&mut self, id: SessionId, local: Option<Box<Local>>, why: Option<Reset>) {
        self.mirror.release(id);
        self.closing.extend(local.map(|local| (local, why)));
        if !self.mirror.has_moved() {
            // The store does not name it.
            self.close_released();
        }
    }

    pub(super) fn close_released(&mut self) {
        for (local, why) in self.closing.drain(..) {
            if let Some(why) = why {
                local.abort(&why);
            }
        }
    }

    /// Aborts a session without a socket, which has nothing to reset.
    pub(super) fn collect(&mut self, id: SessionId, now: Time, tunnel: &mut Tunnel) {
        if tunnel.offered_target(id).is_some() {
            return;
        }
        let Some(reset) = tunnel.pending_reset(id) else { return };
        if self.offers.remove(&id).is_some() {
            self.note_refused(id, reset);
        } else {
            self.news.note_reset(id, reset);
        }
        tunnel.delivered_ending(now, id);
    }

    /// Notes that the target of a session was not connected.
    pub(in crate::driver) fn note_refused(&mut self, id: SessionId, reset: &Reset) {
        if let Some(metadata) = self.metadata.get(&id) {
            self.news.note(id, metadata, SessionChange::Refused(reset.clone()));
        }
    }

    /// Returns whether the end of a session is not noted yet.
    pub(crate) fn awaits_end(&self, id: SessionId) -> bool {
        self.locals.contains_key(&id) || self.offers.contains_key(&id) || self.news.is_tail(id)
    }

    /// Removes a session's socket, whatever it waited for. The session's metadata stays as long as
    /// the tunnel has a record of it.
    pub(super) fn remove(
        &mut self,
        id: SessionId,
        tunnel: &Tunnel,
        what: SessionChange,
    ) -> Removed {
        self.resetting.remove(id);
        self.held.remove(id);
        let local = self.locals.remove(&id)?;
        match what {
            SessionChange::Ended => self.news.note_ended(id, local.metadata(), tunnel),
            what => self.news.note(id, local.metadata(), what),
        }
        if tunnel.has_session(id) {
            self.metadata.insert(id, local.metadata().clone());
        }
        Some(local)
    }

    /// Resets the local sockets whose sessions have ended in the tunnel.
    pub(in crate::driver) fn abort_unknown(
        &mut self,
        cause: Cause,
        tunnel: &mut Tunnel,
        role: &mut impl Role,
    ) {
        self.settle_adopted(tunnel);
        let known: BTreeSet<_> = tunnel.session_ids().collect();
        self.offers.retain(|id, _| known.contains(id));
        let unknown = self.locals.keys().filter(|id| !known.contains(id));
        let why = Reset::new(cause);
        for id in unknown.copied().collect::<Vec<_>>() {
            let mut local = self.remove(id, tunnel, SessionChange::Aborted(why.clone()));
            if let Some(local) = &mut local {
                local.prepare_abort(&why);
            }
            self.release(id, local, Some(why.clone()));
            role.reset(id, &why);
        }
    }

    /// Resets all of them, because the tunnel has ended.
    pub(in crate::driver) fn abort_all(&mut self, tunnel: &Tunnel) {
        let why = Reset::new(Cause::TunnelOver);
        self.locals.values_mut().for_each(|local| local.prepare_abort(&why));
        self.mirror.end();
        self.close_released();
        for (id, local) in std::mem::take(&mut self.locals) {
            self.news.note(id, local.metadata(), SessionChange::Aborted(why.clone()));
            local.abort(&why);
        }
        for (id, _) in std::mem::take(&mut self.offers) {
            self.note_refused(id, &why);
        }
        self.news.finish(tunnel, &why);
    }

    /// Finds sockets that died while nothing is read from them.
    pub(super) fn reap_dead(&mut self, now: Time, tunnel: &mut Tunnel, log: &dyn Admit) {
        let is_dead = |local: &Local| local.is_unwatched(tunnel) && local.is_dead();
        let dead = self.locals.iter().filter(|(_, local)| is_dead(local)).map(|(id, _)| *id);
        let dead: Vec<_> = dead.collect();
        for id in dead {
            limited!(log, info, session = id.get(), "the session's local connection died");
            let why = Reset::new(Cause::Application);
            let local = self.remove(id, tunnel, SessionChange::Broken(why.clone()));
            tunnel.reset(now, id, why);
            self.release(id, local, None);
        }
    }
}
