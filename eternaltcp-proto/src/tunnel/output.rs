//! Output on the carrier, and when the tunnel has to be called.

use super::carrier::{Attached, Carrier};
use super::joined::Joined;
use super::route::Route;
use super::{Event, Tunnel};
use crate::id::SessionId;
use crate::packet::{Header, Kind};
use crate::reason::Cause;
use crate::send_queue::Outgoing;
use crate::seq::Seq;
use crate::time::Time;
use crate::transmit::Transmit;

/// The reason for which [`Tunnel::poll_timeout`] asks for a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TimeoutReason {
    /// A heartbeat of the carrier is due, or its silence has to be checked.
    Liveness,
    /// Acknowledgements have waited long enough for a packet to travel with.
    DelayedAcks,
    /// A reset has waited long enough for the data before it.
    StalledReset,
    /// A heartbeat of a joined carrier is due, or its silence has to be checked.
    JoinedLiveness,
}

impl Tunnel {
    /// Returns the next packet for the carrier: first those of an attach, then signs of life,
    /// acknowledgements and limits, then interactive sessions, then bulk.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        let transmit = match self.carriers.current_mut() {
            Carrier::Detached => None,
            Carrier::Attaching(attaching) => attaching.request.pop_front(),
            Carrier::Attached(_) => self.poll_attached(now),
        }?;
        if let Some(liveness) = self.carriers.liveness_mut() {
            liveness.handle_sent(now);
        }
        Some(transmit)
    }

    fn poll_attached(&mut self, now: Time) -> Option<Transmit> {
        let closing = self.closing;
        let attached = self.attached_mut()?;
        if let Some(packet) = attached.outbox.pop_answer() {
            return Some(packet);
        }
        if let Some(why) = closing {
            return attached
                .outbox
                .take_close_due()
                .then(|| Transmit::of_tunnel(Kind::Close, why.encode()));
        }
        let transmit = attached
            .liveness
            .poll_transmit(now)
            .or_else(|| self.poll_opening(now))
            .or_else(|| self.poll_ack())
            .or_else(|| self.poll_limit())
            .or_else(|| self.poll_final_ack())
            .or_else(|| self.poll_session(now, self.route(now)));
        self.attached_mut()?.outbox.note_coalescing(now, transmit.is_some());
        transmit
    }

    /// Returns packet 0 of the sessions that this side opened, in the order of ids, and the delayed
    /// answers to the peer's.
    fn poll_opening(&mut self, now: Time) -> Option<Transmit> {
        while let Some(id) = self.attached_mut()?.outbox.pop_opening() {
            let Some(packet) = self.sessions.poll_opening(id) else { continue };
            let transmit = self.packet(now, id, packet, Route::Attached);
            self.activate(now, id);
            return transmit;
        }
        None
    }

    fn poll_ack(&mut self) -> Option<Transmit> {
        while let Some(id) = self.attached_mut()?.outbox.pop_ack() {
            if let Some(ack) = self.sessions.take_listed_ack(id) {
                return Some(Transmit::empty(Kind::Ack, id.get(), Seq::default(), ack));
            }
        }
        None
    }

    /// Returns a last acknowledgement, if there is a packet for it to travel with.
    fn poll_final_ack(&mut self) -> Option<Transmit> {
        let follows = !self.sessions.is_quiet();
        let (id, ack) = self.attached_mut()?.outbox.pop_final_ack(follows)?;
        Some(Transmit::empty(Kind::Ack, id.get(), Seq::default(), ack))
    }

    fn poll_limit(&mut self) -> Option<Transmit> {
        if let Some(limit) = self.poll_tunnel_limit() {
            return Some(limit);
        }
        while let Some(id) = self.attached_mut()?.outbox.pop_limit() {
            if let Some((limit, ack)) = self.sessions.take_listed_limit(id) {
                return Some(Transmit::session_limit(id.get(), limit, ack));
            }
        }
        None
    }

    /// Returns the packets that the attached carrier may send now.
    fn route(&self, now: Time) -> Route {
        let has_others = self.attached().is_some_and(Attached::has_open_joined);
        if has_others && self.sessions.is_typing(now) {
            Route::AttachedWithoutBulk
        } else {
            Route::Attached
        }
    }

    pub(super) fn poll_session(&mut self, now: Time, route: Route) -> Option<Transmit> {
        let (id, packet) = self.sessions.poll_packet(now, route)?;
        let transmit = self.packet(now, id, packet, route);
        self.activate(now, id);
        if self.capacity(id) > 0 {
            self.sessions.mark_dirty(id);
        }
        transmit
    }

    pub(super) fn packet(
        &mut self,
        now: Time,
        id: SessionId,
        packet: Outgoing,
        route: Route,
    ) -> Option<Transmit> {
        let bytes = packet.payload.len() as u64;
        if packet.is_replay {
            self.stats.replayed_packets += 1;
            self.stats.replayed_bytes += bytes;
        } else if packet.kind == Kind::Data {
            self.stats.sent_bytes += bytes;
        }
        let ack = self.sessions.handle_sent(now, id, packet.payload.len(), route)?;
        let header = Header {
            kind: packet.kind,
            session: id.get(),
            seq: packet.seq,
            ack,
            length: u32::try_from(packet.payload.len()).ok()?,
        };
        Some(Transmit { header, payload: packet.payload })
    }

    /// Schedules an acknowledgement: delayed by default, immediate if the sender may
    /// be blocked on window space.
    pub(super) fn owe_ack(&mut self, now: Time, id: SessionId) {
        let Some(attached) = self.carriers.attached_mut() else { return };
        attached.outbox.push_ack(now, id, self.sessions.list_ack(id));
    }

    /// Schedules a packet that advertises a limit that was raised.
    pub(super) fn owe_limit(&mut self, id: SessionId) {
        let Some(attached) = self.carriers.attached_mut() else { return };
        if self.sessions.list_limit(id) {
            attached.outbox.push_limit(id);
        }
    }

    pub(super) fn fail_corrupt(&mut self, now: Time, id: SessionId) {
        self.fail(now, id, Cause::Corrupt, "the delivered data differs from the sent data");
    }

    /// Returns when to call [`Self::handle_timeout`] next, and for what reason.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, TimeoutReason)> {
        let liveness = self.carriers.liveness()?.poll_timeout();
        let attached = self.attached();
        let delayed = attached.and_then(|attached| attached.outbox.poll_timeout());
        let stalled =
            attached.and_then(|attached| self.stalled_resets(attached).map(|(_, at)| at).min());
        let joined =
            attached.and_then(|attached| attached.joined.iter().map(Joined::poll_timeout).min());
        [
            (Some(liveness), TimeoutReason::Liveness),
            (delayed, TimeoutReason::DelayedAcks),
            (stalled, TimeoutReason::StalledReset),
            (joined, TimeoutReason::JoinedLiveness),
        ]
        .into_iter()
        .filter_map(|(at, reason)| Some((at?, reason)))
        .min()
    }

    /// Handles the passing of time. Pass all input that arrived before `now` first: a carrier is
    /// judged by the input that was read.
    pub fn handle_timeout(&mut self, now: Time) {
        let Some(liveness) = self.carriers.liveness_mut() else { return };
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
            attached.outbox.handle_timeout(now);
        }
        self.give_up_stalled(now);
    }

    /// Lets a reset that the peer's stalled application holds back skip the bytes that have no
    /// number yet.
    fn give_up_stalled(&mut self, now: Time) {
        let Some(attached) = self.attached() else { return };
        let stalled: Vec<_> = self.stalled_resets(attached).map(|(id, _)| id).collect();
        for id in stalled {
            self.sessions.release_reset(id);
            self.sessions.with(id, |session| session.send_mut().drop_backlog());
            self.activate(now, id);
        }
    }

    /// Returns the resets that have waited for too long, and since when.
    fn stalled_resets(&self, attached: &Attached) -> impl Iterator<Item = (SessionId, Time)> {
        self.sessions.stalled_resets(attached.liveness.last_heard())
    }
}
