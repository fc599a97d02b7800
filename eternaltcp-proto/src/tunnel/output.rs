//! What goes out on the carrier, and when the tunnel wants to be called.

use std::time::Duration;

use super::carrier::{Attached, Carrier};
use super::way::Way;
use super::{Event, Tunnel};
use crate::id::SessionId;
use crate::packet::{Header, Kind};
use crate::reason::Cause;
use crate::scheduler::Lane;
use crate::seq::Seq;
use crate::session::{Listing, Session};
use crate::time::Time;
use crate::transmit::Transmit;

/// An acknowledgement does not wait once this part of the limit is delivered.
const ACK_PART: u64 = 4;

/// Nor once so much is: the sender then uses little memory again and again,
/// which stays in its processor's cache.
const ACK_BYTES: u64 = 128 * 1024;

/// A reset waits this long for the data before it, without progress.
pub(super) const RESET_PATIENCE: Duration = Duration::from_secs(5);

/// What an interactive session sends is a keystroke, or an answer to one, up to
/// this size: one segment.
const SMALL: usize = 1400;

/// While somebody types, and so long after, the attached carrier is left to
/// keystrokes where others carry the bulk.
const TYPING: Duration = Duration::from_secs(3);

impl Tunnel {
    /// The next packet for the carrier: what an attach says, then signs of
    /// life, acknowledgements and limits, then small sessions, then bulk.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        let transmit = match &mut self.carrier {
            Carrier::Detached => None,
            Carrier::Attaching(attaching) => attaching.request.pop_front(),
            Carrier::Attached(_) => self.poll_attached(now),
        }?;
        if let Some(liveness) = self.carrier.liveness_mut() {
            liveness.handle_sent(now);
        }
        Some(transmit)
    }

    fn poll_attached(&mut self, now: Time) -> Option<Transmit> {
        let closing = self.closing;
        let attached = self.attached_mut()?;
        if let Some(packet) = attached.answer.pop_front() {
            return Some(packet);
        }
        if let Some(why) = closing {
            let is_sent = std::mem::replace(&mut attached.is_closing_sent, true);
            return (!is_sent).then(|| Transmit::of_tunnel(Kind::Close, why.encode()));
        }
        let transmit = poll_sign_of_life(attached, now)
            .or_else(|| self.poll_opening(now))
            .or_else(|| self.poll_ack())
            .or_else(|| self.poll_limit())
            .or_else(|| self.poll_farewell())
            .or_else(|| self.poll_session(now, self.way(now)));
        self.attached_mut()?.note_company(now, transmit.is_some());
        transmit
    }

    /// Packet 0 of the sessions that this side opened, in the order of ids, and
    /// of those that have waited with their answer.
    fn poll_opening(&mut self, now: Time) -> Option<Transmit> {
        while let Some(id) = self.attached_mut()?.openings.pop_front() {
            let Some(packet) = self.sessions.get_mut(&id).and_then(|s| s.send.next_packet(0))
            else {
                continue;
            };
            let transmit = self.packet(now, id, packet, Way::Attached);
            self.activate(now, id);
            return transmit;
        }
        None
    }

    fn poll_ack(&mut self) -> Option<Transmit> {
        while let Some(id) = self.attached_mut()?.acks.pop_front() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.ack_listing = Listing::None;
            if session.owes_ack() {
                let ack = session.tell_ack();
                return Some(Transmit::ack(id.get(), ack));
            }
        }
        None
    }

    /// A last acknowledgement, if it has company.
    fn poll_farewell(&mut self) -> Option<Transmit> {
        let is_alone = self.scheduler.is_empty();
        let attached = self.attached_mut().filter(|it| it.has_company || !is_alone)?;
        let (id, ack) = attached.farewells.pop_front()?;
        Some(Transmit::ack(id.get(), ack))
    }

    fn poll_limit(&mut self) -> Option<Transmit> {
        if let Some(limit) = self.poll_tunnel_limit() {
            return Some(limit);
        }
        while let Some(id) = self.attached_mut()?.limits.pop_front() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.is_limit_listed = false;
            if !session.owes_limit() {
                continue;
            }
            let (limit, ack) = (session.tell_limit(), session.tell_ack());
            return Some(Transmit::session_limit(id.get(), limit, ack));
        }
        None
    }

    /// How the attached carrier is used now.
    fn way(&self, now: Time) -> Way {
        let is_typing = self.last_interactive.is_some_and(|at| now.since(at) < TYPING);
        let has_others = self.attached().is_some_and(Attached::has_open_joined);
        if is_typing && has_others { Way::AttachedBeside } else { Way::Attached }
    }

    /// The session whose turn it is on this way.
    fn next_session(&mut self, way: Way) -> Option<SessionId> {
        let sessions = &self.sessions;
        let may_join = |id| sessions.get(&id).is_some_and(|it| it.send.may_go_beside());
        match way {
            Way::Attached => self.scheduler.dequeue(),
            Way::AttachedBeside => self.scheduler.dequeue_with(|id| !may_join(id)),
            Way::Joined => self.scheduler.dequeue_bulk(may_join),
        }
    }

    pub(super) fn poll_session(&mut self, now: Time, way: Way) -> Option<Transmit> {
        while let Some(id) = self.next_session(way) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let lane = std::mem::take(&mut session.lane);
            let ceiling = self.pool.ceiling(session.send.charged());
            let Some(packet) =
                self.with_session(id, |session| session.send.next_packet(ceiling)).flatten()
            else {
                self.starve(id, ceiling);
                continue;
            };
            self.scheduler.charge(id, packet.payload.len());
            let is_small = packet.kind == Kind::Data && packet.payload.len() <= SMALL;
            if is_small && lane == Lane::Interactive {
                self.last_interactive = Some(now);
            }
            let transmit = self.packet(now, id, packet, way);
            self.activate(now, id);
            if self.capacity(id) > 0 {
                self.touch(id);
            }
            return transmit;
        }
        None
    }

    /// A session with data that found no room: the pool's doing, unless its
    /// own limit is the smaller one.
    fn starve(&mut self, id: SessionId, ceiling: u64) {
        let is_pool = self
            .sessions
            .get(&id)
            .is_some_and(|session| session.send.has_due() && ceiling < session.send.limit);
        if is_pool {
            self.starved.insert(id);
        }
    }

    pub(super) fn packet(
        &mut self,
        now: Time,
        id: SessionId,
        packet: crate::send_queue::Outgoing,
        way: Way,
    ) -> Option<Transmit> {
        let bytes = packet.payload.len() as u64;
        if packet.is_replay {
            self.stats.replayed_packets += 1;
            self.stats.replayed_bytes += bytes;
        } else if packet.kind == Kind::Data {
            self.stats.sent_bytes += bytes;
        }
        if let Some(since) = self.resetting.get_mut(&id) {
            *since = now;
        }
        let session = self.sessions.get_mut(&id)?;
        session.recent.add(now, packet.payload.len());
        let header = Header {
            kind: packet.kind,
            session: id.get(),
            seq: packet.seq,
            // On a joined carrier it could be overtaken by a later one.
            ack: if way == Way::Joined { Seq::default() } else { session.tell_ack() },
            length: u32::try_from(packet.payload.len()).ok()?,
        };
        Some(Transmit { header, payload: packet.payload })
    }

    /// Sees to it that the peer learns what was delivered: soon, and at once
    /// where it may wait for room.
    pub(super) fn owe_ack(&mut self, now: Time, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Carrier::Attached(attached) = &mut self.carrier else { return };
        if !session.owes_ack() {
            return;
        }
        if session.untold >= (session.receive.limit / ACK_PART).min(ACK_BYTES) {
            session.untold = 0;
            if std::mem::replace(&mut session.ack_listing, Listing::Now) != Listing::Now {
                attached.acks.push_back(id);
            }
        } else if session.ack_listing == Listing::None {
            session.ack_listing = Listing::Delayed;
            attached.delayed.acks.push(id);
            attached.delayed.wait(now);
        }
    }

    /// Sees to it that the peer learns of a limit that was raised.
    pub(super) fn owe_limit(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Carrier::Attached(attached) = &mut self.carrier else { return };
        if session.owes_limit() && !std::mem::replace(&mut session.is_limit_listed, true) {
            attached.limits.push_back(id);
        }
    }

    pub(super) fn fail_corrupt(&mut self, now: Time, id: SessionId) {
        self.fail(now, id, Cause::Corrupt, "what was delivered is not what was sent");
    }

    /// When [`Self::handle_timeout`] is next to be called, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, &'static str)> {
        let liveness = self.carrier.liveness()?;
        let attached = self.attached();
        let delayed = attached.and_then(|attached| attached.delayed.poll_timeout());
        let stalled =
            attached.and_then(|attached| self.stalled_resets(attached).map(|(_, at)| at).min());
        let joined = attached.and_then(|attached| {
            attached.joined.iter().map(super::joined::Joined::poll_timeout).min()
        });
        [
            Some((liveness.poll_timeout(), "liveness")),
            delayed.map(|at| (at, "acknowledgements")),
            stalled.map(|at| (at, "stalled reset")),
            joined.map(|at| (at, "joined carriers")),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed. What arrived before `now` is to be given first: a
    /// carrier is judged by what was read.
    pub fn handle_timeout(&mut self, now: Time) {
        let Some(liveness) = self.carrier.liveness_mut() else { return };
        if !liveness.handle_timeout(now) {
            self.events.push_back(Event::CarrierDead);
            self.handle_lost();
            return;
        }
        if self.handle_joined_timeout(now) {
            return;
        }
        self.note_suspicion();
        if let Some(attached) = self.attached_mut() {
            attached.release_delayed(now);
        }
        self.give_up_stalled(now);
    }

    /// A reset that the peer's stalled application holds up goes ahead of the
    /// bytes that have no number yet.
    fn give_up_stalled(&mut self, now: Time) {
        let Some(attached) = self.attached() else { return };
        let stalled: Vec<_> = self.stalled_resets(attached).map(|(id, _)| id).collect();
        for id in stalled {
            self.resetting.remove(&id);
            self.with_session(id, |session| session.send.drop_backlog());
            self.activate(now, id);
        }
    }

    /// The resets that wait for too long, and since when it is too long. A
    /// silent carrier, or a stop of our own, says nothing about the peer's
    /// application: it counts how long the peer was heard without progress. Nor
    /// does a session that waits for its turn beside others.
    fn stalled_resets(&self, attached: &Attached) -> impl Iterator<Item = (SessionId, Time)> {
        let heard = attached.liveness.last_heard();
        let awaits_turn = |id| self.sessions.get(id).is_some_and(Session::awaits_turn);
        let blocked = self.resetting.iter().filter(move |(id, _)| !awaits_turn(*id));
        let deadlines = blocked.map(|(id, since)| (*id, *since + RESET_PATIENCE));
        deadlines.filter(move |(_, at)| *at <= heard)
    }
}

fn poll_sign_of_life(attached: &mut Attached, now: Time) -> Option<Transmit> {
    if let Some(beat) = attached.liveness.poll_echo() {
        return Some(Transmit::empty(Kind::Echo, Seq::default(), beat));
    }
    let beat = attached.liveness.poll_beat(now)?;
    Some(Transmit::empty(Kind::Heartbeat, beat, Seq::default()))
}
