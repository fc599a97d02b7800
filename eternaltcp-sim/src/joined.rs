//! Carriers that join the lead: the client's requests for them.

use std::collections::BTreeMap;
use std::time::Duration;

use eternaltcp_proto::{CarrierId, Side, Time};

use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};
use crate::pipe::Incoming;
use crate::spare::{dial_beside, say, stand_by};

/// Interval at which the client checks whether it has enough of them.
const PAUSE: Duration = Duration::from_millis(150);

/// The client's carriers that will join.
#[derive(Debug)]
pub(crate) struct SimJoining {
    wanted: usize,
    links: BTreeMap<LinkId, CarrierId>,
    again: Time,
}

impl SimJoining {
    /// Creates the state for `wanted` carriers beside the attached one.
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, links: BTreeMap::new(), again: Time::ZERO }
    }

    /// Drops all of them, because the program that wanted them is gone.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.wanted);
    }

    pub(crate) fn has(&self, id: LinkId) -> bool {
        self.links.contains_key(&id)
    }

    /// Returns the time at which it has something to do by itself, besides what its tunnel has.
    pub(crate) fn next_time(&self, end: &SimEnd) -> Option<Time> {
        self.wants(end).then_some(self.again)
    }

    fn wants(&self, end: &SimEnd) -> bool {
        end.tunnel.may_join() && end.tunnel.joined_count() + self.links.len() < self.wanted
    }

    /// Performs the actions that are due.
    pub(crate) fn handle_timeout(&mut self, env: &mut Env, end: &mut SimEnd, next: &mut LinkId) {
        if self.wants(end) && self.again <= env.now {
            self.again = env.now + PAUSE;
            self.begin(env, end, next);
        }
        for (id, carrier) in &self.links {
            say(env, *id, &mut end.tunnel, *carrier);
        }
    }

    fn begin(&mut self, env: &mut Env, end: &mut SimEnd, next: &mut LinkId) {
        let Some(carrier) = stand_by(env, end) else { return };
        let id = dial_beside(env, next);
        note!(env, "link {id} is to join");
        self.links.insert(id, carrier);
    }

    /// Handles a link that has something for a carrier that is to join.
    pub(crate) fn handle_link(
        &mut self,
        env: &mut Env,
        end: &mut SimEnd,
        id: LinkId,
        incoming: Incoming,
    ) {
        let Some(carrier) = self.links.get(&id).copied() else { return };
        match incoming {
            Incoming::Bytes(bytes) => {
                let heard = end.tunnel.handle_input(env.now, carrier, bytes);
                heard.expect("the server says what it may");
                say(env, id, &mut end.tunnel, carrier);
            }
            Incoming::Closed => {
                self.links.remove(&id);
                end.tunnel.handle_lost(carrier);
                env.close(id, Side::Client, false);
            }
        }
    }

    /// Handles the server's permission to stand by: the carrier joins if it may. Returns whether
    /// the carrier joins.
    pub(crate) fn handle_ready(
        &mut self,
        env: &mut Env,
        end: &mut SimEnd,
        ready: CarrierId,
    ) -> bool {
        let Some(id) = self.take(ready) else { return false };
        let is_joining = end.tunnel.join(env.now, ready).is_ok();
        if is_joining {
            note!(env, "link {id} asks to join");
            end.carriers.push((id, ready));
        } else {
            end.tunnel.handle_lost(ready);
            env.close(id, Side::Client, false);
        }
        is_joining
    }

    /// Handles the loss of a carrier that was to stand by.
    pub(crate) fn handle_lost(&mut self, env: &mut Env, lost: CarrierId) {
        if let Some(id) = self.take(lost) {
            env.close(id, Side::Client, true);
        }
    }

    fn take(&mut self, carrier: CarrierId) -> Option<LinkId> {
        let id = self.links.iter().find(|(_, its)| **its == carrier).map(|(id, _)| *id)?;
        self.links.remove(&id);
        Some(id)
    }

    /// Drops them: the carrier that they were to join is gone.
    pub(crate) fn give_up(&mut self, env: &mut Env, end: &mut SimEnd) {
        for (id, carrier) in std::mem::take(&mut self.links) {
            end.tunnel.handle_lost(carrier);
            env.close(id, Side::Client, true);
        }
    }
}
