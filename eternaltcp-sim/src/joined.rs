//! Carriers that join the lead: the client's requests for them.

use std::collections::BTreeMap;
use std::time::Duration;

use eternaltcp_proto::{Side, Standby, StandbyEvent, Time};

use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};
use crate::link::Incoming;
use crate::spare::{dial_beside, say, stand_by};

/// Interval at which the client checks whether it has enough of them.
const PAUSE: Duration = Duration::from_millis(150);

/// The client's carriers that will join.
#[derive(Debug)]
pub(crate) struct SimJoining {
    wanted: usize,
    links: BTreeMap<LinkId, Standby>,
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

    /// Returns when it has something to do by itself.
    pub(crate) fn next_time(&self, end: &SimEnd) -> Option<Time> {
        let standbys = self.links.values().filter_map(Standby::poll_timeout);
        standbys.chain(self.wants(end).then_some(self.again)).min()
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
        for (id, mut standby) in std::mem::take(&mut self.links) {
            standby.handle_timeout(env.now);
            self.go_on(env, end, id, standby);
        }
    }

    fn begin(&mut self, env: &mut Env, end: &mut SimEnd, next: &mut LinkId) {
        let Some(standby) = stand_by(env, end) else { return };
        let id = dial_beside(env, next);
        note!(env, "link {id} is to join");
        self.go_on(env, end, id, standby);
    }

    /// Handles a link that has something for a carrier that is to join.
    pub(crate) fn handle_link(
        &mut self,
        env: &mut Env,
        end: &mut SimEnd,
        id: LinkId,
        incoming: Incoming,
    ) {
        let Some(mut standby) = self.links.remove(&id) else { return };
        match incoming {
            Incoming::Bytes(bytes) => {
                standby.handle_input(env.now, bytes).expect("the server says what it may");
                self.go_on(env, end, id, standby);
            }
            Incoming::Closed => env.close(id, Side::Client, false),
        }
    }

    /// Sends the output of a standby carrier, and lets it join when allowed.
    fn go_on(&mut self, env: &mut Env, end: &mut SimEnd, id: LinkId, mut standby: Standby) {
        say(env, id, &mut standby);
        match standby.poll_event() {
            None | Some(StandbyEvent::Suspected(_) | StandbyEvent::Relieved) => {
                self.links.insert(id, standby);
            }
            Some(StandbyEvent::Ready) => match end.tunnel.join(env.now, standby) {
                Ok(joined) => {
                    note!(env, "link {id} asks to join");
                    end.carriers.push((id, joined));
                }
                Err(_) => env.close(id, Side::Client, false),
            },
            Some(StandbyEvent::Refused(_) | StandbyEvent::Dead) => {
                env.close(id, Side::Client, true);
            }
        }
    }

    /// Drops them: the carrier that they were to join is gone.
    pub(crate) fn give_up(&mut self, env: &mut Env) {
        for id in std::mem::take(&mut self.links).into_keys() {
            env.close(id, Side::Client, true);
        }
    }
}
