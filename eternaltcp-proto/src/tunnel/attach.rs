//! Attach: binding a new carrier, exchanging the numbers, and making due what the peer did not
//! receive.

use std::collections::{BTreeMap, BTreeSet};

use super::carrier::{Attaching, CarrierId, CarrierStage};
use super::{Event, Tunnel};
use crate::attach::{AttachAnswer, AttachSettings, Hello, Intent, OLDEST_VERSION, VERSION};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::{Epoch, SessionId, TunnelId};
use crate::numbers::{Numbers, check_count, packets, push_numbers};
use crate::packet::{Header, Kind};
use crate::reason::{Cause, Refusal, RefusalCode, Reset};
use crate::request::AttachRequest;
use crate::send_queue::Mismatch;
use crate::time::Time;

/// The reason why a server's tunnel does not take a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttachError {
    /// An attach with this epoch or a later one was seen.
    #[error("a newer attach was seen")]
    Stale,
    /// The tunnel is closed.
    #[error("the tunnel is closed")]
    Closed,
}

impl AttachError {
    /// Returns the refusal to answer with.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Stale => Refusal::for_now(RefusalCode::Stale, ""),
            Self::Closed => Refusal::last(RefusalCode::TunnelUnknown, "the tunnel is closed"),
        }
    }
}

impl Tunnel {
    /// Asks the server to bind a new carrier: the client's commitment, made once per carrier. The
    /// previous carrier is ignored from now on. `new` gives the request for a tunnel that has no id
    /// yet.
    pub fn attach(&mut self, now: Time, new: impl FnOnce() -> Intent) -> CarrierId {
        self.detach();
        let stage = self.begin_attach(now, new);
        self.carriers.add(Decoder::default(), self.new_liveness(now), stage)
    }

    /// Makes a request with the next epoch.
    pub(super) fn begin_attach(&mut self, now: Time, new: impl FnOnce() -> Intent) -> CarrierStage {
        self.identity.epoch = Epoch(self.identity.epoch.0.saturating_add(1));
        let hello = Hello {
            version: VERSION,
            oldest: OLDEST_VERSION,
            features: self.config.stated_features(),
            intent: self.intent(new),
            epoch: self.identity.epoch,
            settings: self.settings(),
        };
        let side = self.identity.side;
        let numbers = self.sessions.advertise_numbers(|id, session| {
            // Packets that never left this side do not exist for the peer.
            id.opener() != side || !session.send().is_untransmitted()
        });
        let early = self.early_packets(now);
        let attaching = Attaching {
            advertised_limit: hello.settings.tunnel_limit,
            listed: numbers.len(),
            request: packets(Kind::Attach, hello.encode(), &numbers, early),
            answer: None,
            numbers: Vec::new(),
            awaited_echo: None,
            is_reused: false,
        };
        CarrierStage::Attaching(Box::new(attaching))
    }

    /// Binds a carrier on which a complete, admitted request arrived: the server's part. The
    /// previous carrier, if any, is ignored from now on.
    ///
    /// # Errors
    /// The request is not the newest. Nothing has changed then.
    pub fn handle_attach(
        &mut self,
        now: Time,
        id: TunnelId,
        request: AttachRequest,
    ) -> Result<CarrierId, AttachError> {
        if self.closing.is_some() {
            return Err(AttachError::Closed);
        }
        if request.hello.epoch <= self.identity.epoch {
            return Err(AttachError::Stale);
        }
        self.detach();
        let lead = CarrierStage::Lead(Box::default());
        let decoder = request.decoder.clone();
        let carrier = self.carriers.add(decoder, self.new_liveness(now), lead);
        self.bind(now, id, request);
        Ok(carrier)
    }

    /// Takes the numbers of a request whose carrier is the lead now, and queues the answer.
    pub(super) fn bind(&mut self, now: Time, id: TunnelId, request: AttachRequest) {
        let AttachRequest { hello, numbers, early, .. } = request;
        (self.identity.id, self.identity.epoch) = (Some(id), hello.epoch);
        self.peer.features = hello.features & self.config.stated_features();
        let listed: BTreeSet<_> = numbers.iter().map(|numbers| numbers.session).collect();
        self.take_early(now, early);
        self.resume(now, hello.settings, numbers);
        let answer = AttachAnswer {
            version: VERSION.min(hello.version),
            features: self.peer.features,
            tunnel: id,
            epoch: self.identity.epoch,
            settings: self.settings(),
        };
        // The client has no record of sessions that its request does not list.
        let numbers = self.sessions.advertise_numbers(|id, _| listed.contains(&id));
        if let Some(outbox) = self.carriers.outbox_mut() {
            outbox.set_answer(packets(Kind::Attached, answer.encode(), &numbers, Vec::new()));
        }
        self.list_announcements();
    }

    pub(super) fn handle_answer(
        &mut self,
        now: Time,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Some(attaching) = self.carriers.attaching_mut() else { return Ok(()) };
        match (header.kind, attaching.answer) {
            (Kind::Close, None) if attaching.is_reused && header.session == 0 => {
                return self.handle_close(payload);
            }
            // The packet belongs to an attach that is over.
            (kind, None) if attaching.is_reused && kind != Kind::Attached => {}
            (Kind::Refused, None) => {
                let refusal =
                    Refusal::decode(payload).map_err(Violation::payload(Kind::Refused))?;
                self.early.is_unanswered = false;
                self.events.push_back(Event::Refused(refusal));
                self.detach();
            }
            (Kind::Attached, None) => {
                let answer =
                    AttachAnswer::decode(payload).map_err(Violation::payload(Kind::Attached))?;
                if attaching.is_reused && answer.epoch < self.identity.epoch {
                    return Ok(());
                }
                let fits = answer.epoch == self.identity.epoch
                    && answer.version == VERSION
                    && self.identity.id.is_none_or(|id| id == answer.tunnel);
                if !fits {
                    return Err(Violation::WrongAnswer);
                }
                attaching.answer = Some(answer);
            }
            (Kind::Numbers, Some(_)) => {
                let numbers =
                    Numbers::decode(header, payload).map_err(Violation::payload(Kind::Numbers))?;
                push_numbers(&mut attaching.numbers, numbers, attaching.listed)?;
            }
            (Kind::NumbersEnd, Some(answer)) => {
                if check_count(&attaching.numbers, payload)? > 0 {
                    return Err(Violation::WrongAnswer);
                }
                self.finish_attach(now, answer);
            }
            (Kind::Echo, None) if attaching.is_late_echo(header) => {}
            (kind, _) => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// Binds the carrier after the complete answer.
    fn finish_attach(&mut self, now: Time, answer: AttachAnswer) {
        let Some(attaching) = self.carriers.finish_attaching() else { return };
        let Attaching { numbers, advertised_limit, .. } = attaching;
        (self.identity.id, self.peer.features) = (Some(answer.tunnel), answer.features);
        self.early.is_unanswered = false;
        // The limit may have been raised since the request was made.
        if self.config.tunnel_limit > advertised_limit
            && let Some(outbox) = self.carriers.outbox_mut()
        {
            outbox.set_limit_due();
        }
        self.resume(now, answer.settings, numbers);
    }

    /// Sets every session to the state that the peer reports.
    fn resume(&mut self, now: Time, peer: AttachSettings, numbers: Vec<Numbers>) {
        let is_resumed = self.peer.settings.replace(peer).is_some();
        if let Some(lead) = self.carriers.current_mut() {
            lead.liveness.set_peer_dead_after(peer.dead_after);
            lead.liveness.handle_attached();
        }
        self.sessions.set_pool_limit(peer.tunnel_limit.min(self.config.tunnel_limit));
        let listed: BTreeMap<SessionId, Numbers> =
            numbers.into_iter().map(|numbers| (numbers.session, numbers)).collect();
        for id in self.sessions.ids().collect::<Vec<_>>() {
            match listed.get(&id) {
                Some(numbers) => self.resume_known(now, numbers),
                None => self.resume_unlisted(id, peer.session_limit),
            }
            self.resume_sending(now, id);
        }
        self.sessions.restart_reset_waits(now);
        self.note_suspicion(now);
        self.stats.attaches += 1;
        self.events.push_back(Event::Attached { is_resumed });
    }

    fn resume_known(&mut self, now: Time, numbers: &Numbers) {
        let id = numbers.session;
        let resumed = self.sessions.with(id, |session| {
            let send = session.send_mut();
            send.set_limit(numbers.limit);
            let kept = send.kept();
            let resumed = send.resume(numbers.delivered, numbers.received, numbers.digest);
            resumed.map(|()| send.kept() < kept)
        });
        let mismatch = match resumed {
            Some(Err(mismatch)) => mismatch,
            Some(Ok(freed)) => return self.stats.acknowledged += u64::from(freed),
            None => return,
        };
        let (cause, detail) = match mismatch {
            Mismatch::Number => {
                (Cause::Unresumable, "the peer's numbers match nothing that is kept")
            }
            Mismatch::Digest => (Cause::Corrupt, "the delivered data differs from the sent data"),
        };
        let detail = self.sessions.with(id, |session| {
            let detail = session.in_doubt(detail);
            let reset = Reset::with_detail(cause, detail.clone());
            session.send_mut().restart(numbers.delivered, numbers.received, reset);
            detail
        });
        self.fail(now, id, cause, &detail.unwrap_or_default());
    }

    /// Handles a session of which the peer has no record: it never saw the session, or has ended
    /// it.
    fn resume_unlisted(&mut self, id: SessionId, limit: u64) {
        let is_own = id.opener() == self.identity.side;
        let lost = self.sessions.with(id, |session| {
            if is_own && !session.send().is_acknowledged() {
                session.send_mut().rewind();
                session.send_mut().set_limit(limit);
                return false;
            }
            let detail = session.in_doubt("the peer has no record of it");
            session.lose(Reset::with_detail(Cause::Unresumable, detail));
            session.is_aborted()
        });
        self.stats.unresumed += u64::from(lost == Some(true));
    }

    /// Sets where a session's next packet is sent from.
    fn resume_sending(&mut self, now: Time, id: SessionId) {
        self.sessions.mark_dirty(id);
        let Some(session) = self.sessions.get(id) else { return };
        if !session.send().opening_is_sent() {
            self.list_opening(id);
        }
        self.activate(now, id);
        self.owe_ack(now, id);
        self.owe_limit(id);
        self.retire_if_over(id);
    }
}
