//! The local sockets, as the driver has them served, and how they end.

use std::collections::BTreeSet;
use std::task::Context;

use eternaltcp_proto::{Cause, READ_SIZE, Reset, SessionId, Stage};

use super::local::{Local, Served};
use super::{About, Driver, Role};

/// Sockets served before the carrier gets its turn.
const SERVED_AT_ONCE: usize = 64;

/// Bytes read of sockets before the carrier gets its turn: they are sent while
/// they are in the processor's cache.
const READ_AT_ONCE: u64 = READ_SIZE as u64;

impl<R: Role> Driver<R> {
    /// Serves sockets, a bounded number. Says whether more of them may be ready.
    pub(super) fn poll_sockets(&mut self, cx: &mut Context<'_>) -> bool {
        let mut count = 0;
        let enough = self.tunnel.unnumbered() + READ_AT_ONCE;
        for _ in 0..self.again.len() {
            let Some(id) = self.again.pop_front() else { break };
            self.serve(id);
            count += 1;
            if self.tunnel.unnumbered() >= enough {
                return true;
            }
        }
        while count < SERVED_AT_ONCE && self.tunnel.unnumbered() < enough {
            let Some(id) = self.ready.poll_next(cx.waker()) else { return false };
            self.serve(id);
            count += 1;
        }
        true
    }

    /// Serves one local socket, and takes it away when it has ended.
    pub(super) fn serve(&mut self, id: SessionId) {
        let Some(local) = self.locals.get_mut(&id) else {
            self.collect_abort(id);
            return;
        };
        let now = self.now;
        match local.serve(now, &mut self.tunnel, &mut self.blocks) {
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
                if let Some(local) = self.remove(id) {
                    local.end();
                }
            }
            Served::Broken(reset) => {
                self.remove(id);
                self.tunnel.reset(now, id, reset);
            }
            Served::Abort(reset) => {
                if let Some(local) = self.remove(id) {
                    local.abort(&reset);
                }
                self.role.reset(id, &reset);
                self.tunnel.delivered_ending(now, id);
            }
        }
    }

    /// A session without a socket has nothing to abort.
    fn collect_abort(&mut self, id: SessionId) {
        if self.tunnel.offered_target(id).is_none() && self.tunnel.pending_reset(id).is_some() {
            self.offers.remove(&id);
            self.tunnel.delivered_ending(self.now, id);
        }
    }

    /// Takes a session's socket away, whatever it waited for. What is known of
    /// the session stays as long as the tunnel has a record of it.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<Local> {
        self.resetting.remove(&id);
        self.held.remove(&id);
        let local = self.locals.remove(&id)?;
        if self.tunnel.has_session(id) {
            self.abouts.insert(id, local.about.clone());
        }
        Some(local)
    }

    /// Resets the sessions that the role forbids, at both ends.
    pub(super) fn end_forbidden(&mut self) {
        let now = self.clock.now();
        for id in self.tunnel.session_ids().collect::<Vec<_>>() {
            let local = self.locals.get(&id);
            let about = local.map(|local| &local.about).or(self.abouts.get(&id));
            let Some(target) = about.map(About::target) else { continue };
            let is_over =
                self.tunnel.session_view(id).is_none_or(|view| view.stage == Stage::Resetting);
            if is_over {
                continue;
            }
            if let Some(reset) = self.role.forbids(id, target, local.and_then(Local::target)) {
                self.tunnel.kill(now, id, reset);
            }
        }
    }

    /// Resets the local sockets whose sessions are over in the tunnel.
    pub(super) fn abort_unknown(&mut self, cause: Cause) {
        let known: BTreeSet<_> = self.tunnel.session_ids().collect();
        self.offers.retain(|id, _| known.contains(id));
        let unknown = self.locals.keys().filter(|id| !known.contains(id));
        let why = Reset::new(cause);
        for id in unknown.copied().collect::<Vec<_>>() {
            if let Some(local) = self.remove(id) {
                local.abort(&why);
            }
            self.role.reset(id, &why);
        }
    }
}
