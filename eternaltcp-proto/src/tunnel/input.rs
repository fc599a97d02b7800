//! Input on the carriers.

use std::time::Duration;

use bytes::Bytes;

use super::carrier::{CarrierId, CarrierStage};
use super::sessions::{Excess, RESET_PATIENCE};
use super::{Event, Tunnel};
use crate::digest::Digest;
use crate::error::Violation;
use crate::id::SessionId;
use crate::limits::cost;
use crate::packet::{Header, Kind};
use crate::reason::{Closing, Reset};
use crate::seq::Seq;
use crate::session::TunnelSession;
use crate::state::Damaged;
use crate::time::Time;
use crate::wire::Reader;

/// The maximum number of refused sessions whose refusal the peer has not confirmed. An honest peer
/// may not know our limit, and opens as many as its own limit allows.
const MAX_REFUSED: usize = 16 * 1024;

impl Tunnel {
    /// Handles plaintext of a carrier, in order. Bytes of a carrier that the tunnel no longer has
    /// are ignored.
    ///
    /// # Errors
    /// The peer broke the protocol. A carrier that stood by is dropped then, and must be closed. On
    /// any other carrier, the tunnel is detached, and every carrier except for those that stand by
    /// must be closed.
    pub fn handle_input(
        &mut self,
        now: Time,
        id: CarrierId,
        chunk: Bytes,
    ) -> Result<(), Violation> {
        self.handle_heard(now, id);
        let result = self.handle_chunk(now, id, chunk);
        if result.is_err() {
            match self.is_standby(id) {
                true => self.drop_standby(id),
                false => self.detach(),
            }
        }
        result
    }

    /// Handles a read from a carrier's socket, whether or not it has completed any plaintext.
    pub fn handle_heard(&mut self, now: Time, id: CarrierId) {
        if let Some(carrier) = self.carriers.get_mut(id) {
            let silence = now.since(carrier.liveness.last_heard());
            carrier.liveness.handle_heard(now);
            if !carrier.is_joined() && carrier.is_of_attach() {
                self.excuse(now, silence);
            }
        }
        self.note_suspicion(now);
    }

    /// Returns how much of a silence, or of a time without an answer to a heartbeat, counts as a
    /// wait of resets behind data: a little more than the pause between heartbeats.
    pub(super) fn counted_silence(&self) -> Duration {
        (self.config.dead_after / 2).min(RESET_PATIENCE / 2)
    }

    /// Excuses silence, or a time without an answer. A stopped peer is not a stalled application,
    /// and neither is a peer that this side does not reach: resets that wait behind data count
    /// only the beginning of the silence.
    fn excuse(&mut self, now: Time, silence: Duration) {
        let counted = self.counted_silence();
        if silence > counted {
            self.sessions.excuse_resets(now, silence - counted);
        }
    }

    fn handle_chunk(&mut self, now: Time, id: CarrierId, chunk: Bytes) -> Result<(), Violation> {
        if let Some(carrier) = self.carriers.get_mut(id) {
            carrier.decoder.push(chunk);
        }
        while let Some(carrier) = self.carriers.get_mut(id) {
            let Some((header, payload)) = carrier.decoder.poll()? else { break };
            let is_request = header.kind == Kind::Attach || carrier.request.is_some();
            match carrier.stage {
                CarrierStage::Lead(_) | CarrierStage::Joined(_) if is_request => {
                    self.handle_request(now, id, &header, &payload)?;
                }
                CarrierStage::StandingBy(_) => {
                    self.handle_standby_packet(now, id, &header, &payload)?;
                }
                CarrierStage::Attaching(_) => self.handle_answer(now, &header, &payload)?,
                CarrierStage::Lead(_) => self.handle_packet(now, &header, payload)?,
                CarrierStage::Joined(_) => self.handle_joined_packet(now, id, &header, payload)?,
                CarrierStage::Deposed if header.kind == Kind::Close => {
                    self.handle_close(&payload)?
                }
                // The packet belongs to an attach that is over.
                CarrierStage::Deposed => {}
            }
        }
        Ok(())
    }

    /// Handles a packet of the lead.
    fn handle_packet(
        &mut self,
        now: Time,
        header: &Header,
        payload: Bytes,
    ) -> Result<(), Violation> {
        self.with_liveness(|l| l.handle_received(now, header.kind));
        match (header.kind, SessionId::new(header.session)) {
            (Kind::Heartbeat, None) => self.with_liveness(|l| l.handle_heartbeat(header.seq)),
            (Kind::Echo, None) => {
                self.handle_lead_echo(now, header.ack);
                self.note_suspicion(now);
            }
            (Kind::Quiet, None) => self.handle_quiet(now, header, &payload)?,
            (Kind::Close, None) => self.handle_close(&payload)?,
            (Kind::Announce, None) => self.handle_announcement(&payload)?,
            (Kind::Limit, None) => {
                let limit = read_u64(Kind::Limit, &payload)?;
                self.handle_tunnel_limit(now, limit);
            }
            (Kind::Ack | Kind::Limit, Some(id)) => self.handle_ack(now, id, header, &payload)?,
            (kind, Some(id)) if kind.is_numbered() => {
                self.handle_numbered(now, id, header, payload)?;
            }
            (kind, _) => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// Handles an answer to a heartbeat of the lead. It does not matter here whether it was asked
    /// for.
    fn handle_lead_echo(&mut self, now: Time, beat: Seq) {
        let Some(lead) = self.carriers.current_mut() else { return };
        let asked = lead.liveness.unanswered_since();
        let _ = lead.liveness.handle_echo(now, beat);
        if let Some(asked) = asked.filter(|_| lead.liveness.unanswered_since().is_none()) {
            self.excuse(now, now.since(asked));
        }
    }

    pub(super) fn with_liveness(&mut self, tell: impl FnOnce(&mut crate::liveness::Liveness)) {
        if let Some(lead) = self.carriers.current_mut() {
            tell(&mut lead.liveness);
        }
    }

    pub(super) fn handle_close(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let why = Closing::decode(payload).map_err(Violation::payload(Kind::Close))?;
        self.closing.get_or_insert(why);
        self.events.push_back(Event::Closed(why));
        self.detach();
        Ok(())
    }

    /// Handles an acknowledgement or a limit. It may cross the end of its session, and is then
    /// ignored.
    fn handle_ack(
        &mut self,
        now: Time,
        id: SessionId,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if !self.sessions.has(id) {
            return if self.sessions.was_known(id) { Ok(()) } else { Err(no_such(header)) };
        }
        self.acknowledge(now, id, header)?;
        if header.kind == Kind::Limit {
            let limit = read_u64(Kind::Limit, payload)?;
            self.sessions.with(id, |session| session.send_mut().raise_limit(limit));
        }
        self.activate(now, id);
        self.retire_if_over(id);
        Ok(())
    }

    fn acknowledge(&mut self, now: Time, id: SessionId, header: &Header) -> Result<(), Violation> {
        let freed = self
            .sessions
            .with(id, |session| session.send_mut().acknowledge(header.ack))
            .unwrap_or(Ok(false))
            .map_err(|_| Violation::Acknowledgement { session: id, got: header.ack.get() })?;
        if freed {
            self.stats.acknowledged += 1;
            self.sessions.note_progress(id, now);
            self.activate(now, id);
            self.activate_blocked(now);
        }
        Ok(())
    }

    pub(super) fn activate_blocked(&mut self, now: Time) {
        if self.is_attached() {
            self.sessions.activate_blocked(now);
        }
    }

    fn handle_numbered(
        &mut self,
        now: Time,
        id: SessionId,
        header: &Header,
        payload: Bytes,
    ) -> Result<(), Violation> {
        if !self.sessions.has(id) {
            if header.kind == Kind::Reset && self.sessions.was_known(id) {
                return self.confirm_late_reset(id, header.seq);
            }
            return self.handle_open(now, id, header, payload);
        }
        let place = self.place(id, header)?;
        self.acknowledge(now, id, header)?;
        self.take_at(now, id, place, (header, payload))
    }

    /// Handles a reset that crossed the end of its session: the peer's socket was reset after
    /// everything was sent and delivered. It only has to be confirmed.
    fn confirm_late_reset(&mut self, id: SessionId, seq: Seq) -> Result<(), Violation> {
        let most = self.config.effective_max_sessions() + MAX_REFUSED;
        let Some(outbox) = self.carriers.outbox_mut() else { return Ok(()) };
        if outbox.final_acks() >= most {
            return Err(Violation::Flood);
        }
        outbox.push_final_ack(id, seq.next());
        Ok(())
    }

    fn handle_open(
        &mut self,
        now: Time,
        id: SessionId,
        header: &Header,
        target: Bytes,
    ) -> Result<(), Violation> {
        let is_new = header.kind == Kind::Open
            && header.seq == self.config.first_seq
            && id.opener() != self.identity.side
            && !self.sessions.was_known(id);
        if !is_new {
            return Err(no_such(header));
        }
        if self.sessions.len() >= self.config.effective_max_sessions() + MAX_REFUSED {
            return Err(Violation::Flood);
        }
        let limit = self.send_limit();
        let admitted = self.sessions.handle_open(now, (&self.config, limit), (id, target));
        self.stats.sessions += 1;
        match admitted {
            Ok(()) => {
                self.events.push_back(Event::Opened(id));
                self.owe_ack(now, id);
            }
            Err(excess) => {
                match excess {
                    Excess::Rate => self.stats.refused_fast += 1,
                    Excess::Count => self.stats.refused_full += 1,
                }
                self.activate(now, id);
            }
        }
        Ok(())
    }

    pub(super) fn handle_data(
        &mut self,
        now: Time,
        id: SessionId,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let room = self.room(id);
        let price = cost(payload.len());
        let accepted = self.sessions.with(id, |session| {
            if !session.receive().is_open() {
                return Err(Violation::OutOfPlace(Kind::Data));
            }
            let fits = session.receive().is_discarding() || price <= room;
            if !fits {
                return Err(Violation::OverLimit { session: id });
            }
            session.receive_mut().receive_data(payload);
            Ok(session.receive_mut().take_ahead())
        });
        match accepted.unwrap_or(Ok(Ok(0)))? {
            Ok(0) => {}
            Ok(count) => self.delivered(now, id, count),
            Err(Damaged) => self.fail_corrupt(now, id),
        }
        self.sessions.mark_dirty(id);
        Ok(())
    }

    pub(super) fn handle_opened(
        &mut self,
        id: SessionId,
        header: &Header,
    ) -> Result<(), Violation> {
        let is_awaited = header.seq == self.config.first_seq && id.opener() == self.identity.side;
        if !is_awaited {
            return Err(Violation::OutOfPlace(Kind::Opened));
        }
        let opened = self.sessions.with(id, TunnelSession::handle_opened);
        opened.ok_or_else(|| no_such(header))?;
        self.sessions.mark_dirty(id);
        Ok(())
    }

    pub(super) fn handle_end(
        &mut self,
        now: Time,
        id: SessionId,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let digest = Digest::new(read_u64(Kind::End, payload)?);
        let corrupt = self.sessions.with(id, |session| {
            if !session.receive().is_open() {
                return Err(Violation::OutOfPlace(Kind::End));
            }
            session.receive_mut().receive_end(digest);
            Ok(session.receive().is_corrupt())
        });
        if corrupt.unwrap_or(Ok(false))? {
            self.fail_corrupt(now, id);
        }
        self.sessions.mark_dirty(id);
        Ok(())
    }

    /// Handles the peer's reset, unless there was one before.
    pub(super) fn handle_reset(
        &mut self,
        now: Time,
        id: SessionId,
        seq: Seq,
        reset: Reset,
    ) -> bool {
        let in_order = self.sessions.with(id, |session| {
            let in_order = !session.receive().is_reset();
            if in_order {
                session.handle_reset(seq, reset);
            }
            in_order
        });
        if in_order != Some(true) {
            return false;
        }
        self.sessions.release_reset(id);
        self.carriers.reorder_mut().retire(id);
        self.activate(now, id);
        self.sessions.mark_dirty(id);
        true
    }
}

pub(super) fn read_u64(kind: Kind, payload: &[u8]) -> Result<u64, Violation> {
    Reader::new(payload).u64().map_err(Violation::payload(kind))
}

pub(super) fn no_such(header: &Header) -> Violation {
    Violation::NoSuchSession { kind: header.kind, session: header.session }
}
