//! Output on the carriers, and the time of the next call.

use super::carrier::{CarrierId, CarrierStage};
use super::outbox::Outbox;
use super::route::Route;
use super::{Event, Tunnel};
use crate::id::SessionId;
use crate::packet::{Header, Kind};
use crate::reason::Cause;
use crate::send_queue::Outgoing;
use crate::seq::Seq;
use crate::standby::StandbyLoss;
use crate::time::Time;
use crate::transmit::Transmit;

/// The reason for which [`Tunnel::poll_timeout`] asks for a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TimeoutReason {
    /// A heartbeat of a carrier is due, or its silence has to be checked.
    Liveness,
    /// Delayed acknowledgements are due, with or without a packet that carries them.
    DelayedAcks,
    /// A reset has waited long enough for the data before it.
    StalledReset,
}

impl Tunnel {
    /// Returns the next packet for a carrier: first those of an attach, then signs of life,
    /// acknowledgements and limits, then interactive sessions, then bulk. A joined carrier has only
    /// signs of life and bulk, and one that stands by only signs of life.
    pub fn poll_transmit(&mut self, now: Time, id: CarrierId) -> Option<Transmit> {
        let carrier = self.carriers.get_mut(id)?;
        let transmit = match &mut carrier.stage {
            CarrierStage::StandingBy(standby) => standby.poll_transmit(now, &mut carrier.liveness),
            CarrierStage::Attaching(attaching) => attaching.request.pop_front(),
            CarrierStage::Lead(_) => self.poll_lead(now),
            CarrierStage::Joined(_) => self.poll_joined(now, id),
            CarrierStage::Deposed => carrier.liveness.poll_transmit(now),
        }?;
        self.carriers.get_mut(id)?.liveness.handle_sent(now, transmit.header.kind);
        Some(transmit)
    }

    fn poll_lead(&mut self, now: Time) -> Option<Transmit> {
        let closing = self.closing;
        let outbox = self.carriers.outbox_mut()?;
        if let Some(packet) = outbox.pop_answer() {
            return Some(packet);
        }
        if let Some(why) = closing {
            let is_due = outbox.take_close_due();
            return is_due.then(|| Transmit::of_tunnel(Kind::Close, why.encode()));
        }
        let transmit = self
            .poll_quiet(now)
            .or_else(|| self.carriers.current_mut()?.liveness.poll_transmit(now))
            .or_else(|| self.poll_announcement())
            .or_else(|| self.poll_opening(now))
            .or_else(|| self.poll_ack())
            .or_else(|| self.poll_limit())
            .or_else(|| self.poll_final_ack())
            .or_else(|| self.poll_session(now, self.route(now)));
        self.carriers.outbox_mut()?.note_coalescing(now, transmit.is_some());
        transmit
    }

    /// Returns packet 0 of the sessions that this side opened, in the order of ids, and the delayed
    /// answers to the peer's.
    fn poll_opening(&mut self, now: Time) -> Option<Transmit> {
        while let Some(id) = self.carriers.outbox_mut()?.pop_opening() {
            let Some(packet) = self.sessions.poll_opening(id) else { continue };
            let transmit = self.packet(now, id, packet, Route::Attached);
            self.activate(now, id);
            return transmit;
        }
        None
    }

    fn poll_ack(&mut self) -> Option<Transmit> {
        while let Some(id) = self.carriers.outbox_mut()?.pop_ack() {
            if let Some(ack) = self.sessions.take_listed_ack(id) {
                return Some(Transmit::empty(Kind::Ack, id.get(), Seq::default(), ack));
            }
        }
        None
    }

    /// Returns a last acknowledgement, if there is a packet for it to travel with.
    fn poll_final_ack(&mut self) -> Option<Transmit> {
        let follows = !self.sessions.is_quiet();
        let (id, ack) = self.carriers.outbox_mut()?.pop_final_ack(follows)?;
        Some(Transmit::empty(Kind::Ack, id.get(), Seq::default(), ack))
    }

    fn poll_limit(&mut self) -> Option<Transmit> {
        if let Some(limit) = self.poll_tunnel_limit() {
            return Some(limit);
        }
        while let Some(id) = self.carriers.outbox_mut()?.pop_limit() {
            if let Some((limit, ack)) = self.sessions.take_listed_limit(id) {
                return Some(Transmit::session_limit(id.get(), limit, ack));
            }
        }
        None
    }

    /// Returns the packets that the attached carrier may send now.
    fn route(&self, now: Time) -> Route {
        if self.carriers.has_open_joined() && self.sessions.is_typing(now) {
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
        let Some(outbox) = self.carriers.outbox_mut() else { return };
        outbox.push_ack(now, id, self.sessions.list_ack(id));
    }

    /// Schedules a packet that advertises a limit that was raised.
    pub(super) fn owe_limit(&mut self, id: SessionId) {
        let Some(outbox) = self.carriers.outbox_mut() else { return };
        if self.sessions.list_limit(id) {
            outbox.push_limit(id);
        }
    }

    pub(super) fn fail_corrupt(&mut self, now: Time, id: SessionId) {
        self.fail(now, id, Cause::Corrupt, "the delivered data differs from the sent data");
    }

    /// Returns the time at which to call [`Self::handle_timeout`] next, and for what reason.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, TimeoutReason)> {
        let liveness = self.carriers.poll_timeout()?;
        let delayed = self.carriers.outbox().and_then(Outbox::poll_timeout);
        let stalled = self.stalled_reset_at();
        [
            (Some(liveness), TimeoutReason::Liveness),
            (delayed, TimeoutReason::DelayedAcks),
            (stalled, TimeoutReason::StalledReset),
        ]
        .into_iter()
        .filter_map(|(at, reason)| Some((at?, reason)))
        .min()
    }

    /// Handles the passing of time. Pass all input that arrived before `now` first: a carrier is
    /// judged by the input that was read.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(dead) = self.carriers.handle_timeout(now) {
            if self.is_standby(dead) {
                self.lose_standby(dead, StandbyLoss::Dead);
                continue;
            }
            let was_current = self.lead().is_some();
            self.handle_lost(dead);
            // The end of a carrier that only waited for the next attach changes nothing else.
            if was_current && self.lead().is_none() {
                self.events.push_back(Event::CarrierDead(dead));
            }
        }
        self.note_suspicion(now);
        if let Some(outbox) = self.carriers.outbox_mut() {
            outbox.handle_timeout(now);
        }
        self.give_up_stalled(now);
    }

    /// Lets a reset that the peer's stalled application holds back skip the bytes that have no
    /// number yet. Asks first whether the peer has received the others.
    fn give_up_stalled(&mut self, now: Time) {
        let Some(reached) = self.reached() else { return };
        let overdue: Vec<_> =
            self.sessions.reset_deadlines().filter(|(_, at)| *at <= now).collect();
        for &(id, _) in overdue.iter().filter(|(_, at)| *at <= reached) {
            self.sessions.release_reset(id);
            self.sessions.with(id, |session| session.send_mut().drop_backlog());
            self.activate(now, id);
        }
        let unknown = overdue.iter().map(|(_, at)| *at).filter(|at| *at > reached);
        let Some(at) = unknown.max() else { return };
        for carrier in self.carriers.iter_mut().filter(|carrier| carrier.carries_data()) {
            if carrier.liveness.may_ask_about(at) {
                carrier.liveness.probe(now);
            }
        }
    }

    /// Returns the time at which a reset has waited for too long, or at which to ask whether the
    /// peer has received the data before it.
    fn stalled_reset_at(&self) -> Option<Time> {
        let at = self.sessions.reset_deadlines().map(|(_, at)| at).min()?;
        let reached = self.reached()?;
        let mut carrying = self.carriers.iter().filter(|carrier| carrier.carries_data());
        let has_turn = at <= reached || carrying.any(|it| it.liveness.may_ask_about(at));
        has_turn.then_some(at)
    }

    /// Returns the time before which everything that was sent has reached the peer, on each carrier
    /// that carries data.
    fn reached(&self) -> Option<Time> {
        let carrying = self.carriers.iter().filter(|carrier| carrier.carries_data());
        carrying.map(|carrier| carrier.liveness.reached()).min().filter(|_| self.is_attached())
    }
}
