//! Carriers that join the attached one: the client's requests for them, and the handling of their links
//! at both ends.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{Event, HEADER_LEN, Side, Standby, StandbyEvent, Time};

use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};
use crate::link::Incoming;
use crate::spare::{dial_beside, say, stand_by};

/// Interval at which the client checks whether it has enough of them.
const PAUSE: Duration = Duration::from_millis(150);

/// At this rate, in bytes per millisecond, a session that always has data looks like one that
/// rarely has.
const SLOW: u64 = 100;

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

    /// The program that wanted them is gone.
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
        end.tunnel.may_join() && end.joined.len() + self.links.len() < self.wanted
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
                    end.joined.insert(id, joined);
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

impl SimEnd {
    /// Handles bytes on a joined carrier.
    pub(crate) fn handle_joined_bytes(
        &mut self,
        env: &mut Env,
        id: LinkId,
        mut bytes: Bytes,
    ) -> Vec<Event> {
        let mut news = Vec::new();
        while !bytes.is_empty() {
            // Earlier input may have ended all carriers.
            let Some(joined) = self.joined.get(&id).copied() else { break };
            let size = env.rng.between(1, bytes.len() as u64) as usize;
            let before = self.tunnel.stats().reordered;
            if let Err(violation) =
                self.tunnel.handle_joined_input(env.now, joined, bytes.split_to(size))
            {
                panic!("{:?} sees a violation on a joined carrier: {violation}", self.side);
            }
            env.counters.reordered += self.tunnel.stats().reordered - before;
            news.extend(self.pump(env));
        }
        news
    }

    /// Puts one packet on a joined carrier; `false` if there is none for any that has room.
    pub(crate) fn transmit_joined(&mut self, env: &mut Env) -> bool {
        for (id, joined) in self.joined.clone() {
            let has_room =
                env.links.get_mut(&id).is_some_and(|link| link.room(self.side, env.now) > 0);
            if !has_room {
                continue;
            }
            let Some(packet) = self.tunnel.poll_joined_transmit(env.now, joined) else { continue };
            let is_data = packet.payload.len() > HEADER_LEN;
            env.counters.joined_packets += u64::from(is_data);
            let is_slow = |id| env.links.get(id).is_none_or(|link| link.rate() <= SLOW);
            let all = self.carrier.iter().chain(self.joined.keys()).all(is_slow);
            env.counters.joined_packets_slow += u64::from(is_data && all);
            let bytes = self.encode(env, &packet);
            self.commit();
            note!(env, "{:?} sends {:?} on joined link {id}", self.side, packet.header);
            let cut = env.links.get_mut(&id).and_then(|l| l.write(self.side, env.now, bytes));
            env.counters.cuts_of_joined += u64::from(cut.is_some());
            return true;
        }
        false
    }
}
