//! One session: its two directions, and how they end together.

mod advertised;
mod delivery;
mod state;

use bytes::Bytes;

use crate::config::Config;
use crate::id::SessionId;
use crate::numbers::Numbers;
use crate::packet::Kind;
use crate::reason::{Cause, Reset};
use crate::receive_queue::{Ending, ReceiveQueue};
use crate::scheduler::{INTERACTIVE, Lane, Recent};
use crate::send_queue::SendQueue;
use crate::seq::Seq;
use crate::time::Time;
use advertised::Advertised;
pub(crate) use advertised::Listing;
pub use delivery::{Delivery, Lost};

/// The progress of a session's opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// We opened it, and the peer has not said that its target is connected.
    Asked,
    /// The peer opened it, and the driver has not answered. Holds the target.
    Offered(Bytes),
    /// The target is connected, or the peer opened it and was answered by a reset.
    Established,
}

/// The result of a delivery to the local socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    /// Whether a packet was completed, so that there is something to acknowledge.
    pub(crate) is_finished: bool,
    /// Whether the end of stream is next and shows that the data is not what was sent.
    pub(crate) is_corrupt: bool,
    /// The limit that the session has grown to.
    pub(crate) grown: Option<u64>,
}

/// A session of a tunnel.
#[derive(Debug)]
pub(crate) struct TunnelSession {
    send: SendQueue,
    receive: ReceiveQueue,
    opening: Opening,
    /// The reason why the local socket must be reset, unless the peer has reset the session.
    abort: Option<Reset>,
    /// Its lane in the scheduler.
    lane: Lane,
    recent: Recent,
    advertised: Advertised,
    /// Whether the driver has to look at it.
    is_dirty: bool,
}

impl TunnelSession {
    fn new(config: &Config, send_limit: u64, opening: Opening) -> Self {
        Self {
            send: SendQueue::new(config.first_seq, send_limit),
            receive: ReceiveQueue::new(config.first_seq, config.session_limit),
            opening,
            abort: None,
            lane: Lane::Idle,
            recent: Recent::default(),
            advertised: Advertised::new(config.first_seq, config.session_limit),
            is_dirty: false,
        }
    }

    /// Creates a session that this side opens, to `target`.
    pub(crate) fn opened_by_us(config: &Config, send_limit: u64, target: Bytes) -> Self {
        let mut session = Self::new(config, send_limit, Opening::Asked);
        session.send.set_opening(Kind::Open, target);
        session
    }

    /// Creates a session that the peer opened, whose first packet was received.
    pub(crate) fn opened_by_peer(config: &Config, send_limit: u64, opening: Opening) -> Self {
        let mut session = Self::new(config, send_limit, opening);
        session.receive.receive_opening();
        session
    }

    /// Returns the sending direction.
    pub(crate) fn send(&self) -> &SendQueue {
        &self.send
    }

    /// Returns the sending direction, for changes.
    pub(crate) fn send_mut(&mut self) -> &mut SendQueue {
        &mut self.send
    }

    /// Returns the receiving direction.
    pub(crate) fn receive(&self) -> &ReceiveQueue {
        &self.receive
    }

    /// Returns the receiving direction, for changes.
    pub(crate) fn receive_mut(&mut self) -> &mut ReceiveQueue {
        &mut self.receive
    }

    /// Returns the progress of its opening.
    pub(crate) fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Returns whether the local socket must be reset although the peer has not reset the session.
    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.is_some()
    }

    /// Returns whether the record can go: nothing is left to send, to receive, or to tell the
    /// driver.
    pub(crate) fn is_over(&self) -> bool {
        self.send.is_done()
            && self.receive.is_done()
            && self.abort.is_none()
            && !self.awaits_reset()
    }

    /// Returns whether the peer has reset the session and will send that reset again. While the
    /// local socket lives, a reset of ours only answers the peer's. If the peer's reset is missing,
    /// it was lost with the process that had received it.
    fn awaits_reset(&self) -> bool {
        self.send.was_reset() && !self.receive.is_discarding() && !self.receive.is_reset()
    }

    /// Returns whether it has something to send and waits for its turn on the carrier. A session
    /// that the peer's limits hold back does not wait for this side.
    pub(crate) fn awaits_turn(&self) -> bool {
        self.lane != Lane::Idle || !self.send.opening_is_sent()
    }

    /// Gives the session a lane of the scheduler if it has none and something is due. Returns the
    /// lane to which to add it.
    pub(crate) fn enter_lane(&mut self, now: Time) -> Lane {
        if self.lane != Lane::Idle || !self.send.has_due() || !self.send.opening_is_sent() {
            return Lane::Idle;
        }
        self.recent.add(now, 0);
        self.lane = self.recent.lane(self.send.waiting(INTERACTIVE.into()));
        self.lane
    }

    /// Removes the session from the scheduler. Returns the lane that it had.
    pub(crate) fn leave_lane(&mut self) -> Lane {
        std::mem::take(&mut self.lane)
    }

    /// Handles a packet of it that is sent, with this many bytes of payload.
    pub(crate) fn handle_sent(&mut self, now: Time, bytes: usize) {
        self.recent.add(now, bytes);
    }

    /// Handles the loss of the carrier, and of all lists with it.
    pub(crate) fn handle_carrier_lost(&mut self) {
        self.lane = Lane::Idle;
        self.advertised.unlist_ack();
        self.advertised.unlist_limit();
    }

    /// Marks the session for the driver. Returns whether it was not marked before.
    pub(crate) fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// Clears the mark of a session that the driver is about to look at.
    pub(crate) fn clear_dirty(&mut self) {
        self.is_dirty = false;
    }

    /// Returns whether the acknowledgement has changed since the peer was told.
    pub(crate) fn owes_ack(&self) -> bool {
        self.advertised.ack() != self.receive.delivered()
    }

    /// Returns the limit to put into a packet now.
    fn advertise_limit(&mut self) -> u64 {
        self.advertised.set_limit(self.receive.limit())
    }

    /// Returns the acknowledgement to put into a header now.
    pub(crate) fn advertise_ack(&mut self) -> Seq {
        self.advertised.set_ack(self.receive.delivered())
    }

    /// Returns its numbers for an attach.
    pub(crate) fn advertise_numbers(&mut self, session: SessionId) -> Numbers {
        Numbers {
            session,
            received: self.receive.next(),
            delivered: self.advertise_ack(),
            digest: self.receive.digest(),
            limit: self.advertise_limit(),
        }
    }

    /// Lists an acknowledgement, if one is owed. Returns the list to which to add the session.
    pub(crate) fn list_ack(&mut self) -> Listing {
        if self.owes_ack() { self.advertised.list_ack(self.receive.limit()) } else { Listing::None }
    }

    /// Removes the session from the list of acknowledgements. Returns the acknowledgement to send,
    /// if one is owed.
    pub(crate) fn take_listed_ack(&mut self) -> Option<Seq> {
        self.advertised.unlist_ack();
        self.owes_ack().then(|| self.advertise_ack())
    }

    fn owes_limit(&self) -> bool {
        self.advertised.limit() != self.receive.limit()
    }

    /// Lists the limit, if it has changed since the peer was told. Returns whether to add the
    /// session to the list.
    pub(crate) fn list_limit(&mut self) -> bool {
        self.owes_limit() && self.advertised.list_limit()
    }

    /// Removes the session from the list of limits. Returns the limit and the acknowledgement to
    /// send, if the limit has changed since the peer was told.
    pub(crate) fn take_listed_limit(&mut self) -> Option<(u64, Seq)> {
        self.advertised.unlist_limit();
        self.owes_limit().then(|| (self.advertise_limit(), self.advertise_ack()))
    }

    /// Records that the local socket took `count` bytes. The limit grows up to `most`.
    pub(crate) fn deliver(&mut self, count: usize, most: u64) -> Delivered {
        let used = self.receive.used();
        let is_finished = self.receive.deliver(count);
        self.advertised.add_credit(self.receive.used() - used);
        let has_grown = self.receive.grow(most);
        Delivered {
            is_finished,
            is_corrupt: self.receive.is_corrupt(),
            grown: has_grown.then_some(self.receive.limit()),
        }
    }

    /// Gives waiting payload its own memory.
    pub(crate) fn compact(&mut self) {
        self.receive.compact();
    }

    /// Records that the end or the reset was passed on to the local socket.
    pub(crate) fn deliver_ending(&mut self) {
        if self.abort.take().is_none() {
            self.receive.deliver_ending();
        }
    }

    /// Records that the target that the peer asked for is connected. Returns whether that is new.
    pub(crate) fn accept(&mut self) -> bool {
        let is_offered = matches!(self.opening, Opening::Offered(_));
        if is_offered {
            self.opening = Opening::Established;
            self.send.set_opening(Kind::Opened, Bytes::new());
        }
        is_offered
    }

    /// Handles the peer's message that the target is connected.
    pub(crate) fn handle_opened(&mut self) {
        self.opening = Opening::Established;
        self.receive.receive_opening();
    }

    /// Returns a session that the peer has not answered to its initial state. Returns whether that
    /// was possible.
    pub(crate) fn unsend(&mut self, first: Seq, target: Option<Bytes>) -> bool {
        let is_asked = self.opening == Opening::Asked && !self.receive.is_discarding();
        let target = target.filter(|_| is_asked && self.abort.is_none());
        target.is_some_and(|target| self.send.unsend(first, (Kind::Open, target)))
    }

    /// Resets the session because the local socket is gone. The peer is told after the data before
    /// it.
    pub(crate) fn reset_by_driver(&mut self, reset: Reset) {
        self.abort = None;
        if self.receive.is_discarding() {
            return;
        }
        self.withdraw_offer();
        let is_heard_out = self.receive.is_done();
        self.receive.discard();
        if !(is_heard_out && self.send.is_done()) {
            self.tell_reset(reset);
        }
    }

    /// Returns `why` with the number of bytes whose fate is unknown.
    pub(crate) fn in_doubt(&self, why: &str) -> String {
        match self.send.in_doubt() {
            1 => format!("{why}; 1 byte sent is in doubt"),
            bytes => format!("{why}; {bytes} bytes sent are in doubt"),
        }
    }

    /// Tells the peer of a reset, unless it has reset the session itself.
    fn tell_reset(&mut self, reset: Reset) {
        if !self.receive.is_reset() {
            self.send.reset(reset);
        }
    }

    /// Fails the session: the peer is told at once, and the local socket must be reset.
    pub(crate) fn fail(&mut self, reset: Reset) {
        if self.receive.is_discarding() {
            return;
        }
        self.withdraw_offer();
        self.receive.discard();
        self.send.drop_backlog();
        self.tell_reset(reset.clone());
        self.abort = Some(reset);
    }

    /// Ends the session because the peer no longer knows it.
    pub(crate) fn lose(&mut self, reset: Reset) {
        let has_ended = self.send.is_said() && self.receive.is_done() && !self.awaits_reset();
        let is_heard_out = self.receive.is_discarding() || has_ended;
        self.send.lose();
        if !is_heard_out {
            self.withdraw_offer();
            self.receive.discard();
            self.abort = Some(reset);
        }
        self.receive.end_discarded();
    }

    /// Handles the peer's reset: it wants nothing of ours any more.
    pub(crate) fn handle_reset(&mut self, seq: Seq, reset: Reset) {
        if !self.send.is_reset_sent() {
            self.send.cut(Reset::new(Cause::Application));
        }
        self.withdraw_offer();
        self.receive.receive_reset(seq, reset);
    }

    /// Withdraws the request to connect the target. For a session that we opened, it stays unknown
    /// whether its target was ever connected.
    fn withdraw_offer(&mut self) {
        if matches!(self.opening, Opening::Offered(_)) {
            self.opening = Opening::Established;
        }
    }

    /// Returns the kind that the peer's first packet must have, unless it is a reset.
    pub(crate) fn awaited_opening(&self) -> Option<Kind> {
        (self.opening == Opening::Asked).then_some(Kind::Opened)
    }

    /// Returns the next action on the local socket.
    pub(crate) fn delivery(&self) -> Delivery<'_> {
        if let Some(reset) = &self.abort {
            return Delivery::Reset(reset);
        }
        if let Some(front) = self.receive.deliverable().next() {
            return Delivery::Data(front);
        }
        match self.receive.ending() {
            Some(Ending::End) => Delivery::End,
            Some(Ending::Reset(reset)) => Delivery::Reset(reset),
            None => Delivery::Nothing,
        }
    }

    /// Returns a reset that waits behind data, or is next.
    pub(crate) fn pending_reset(&self) -> Option<&Reset> {
        match (&self.abort, self.receive.ending()) {
            (Some(reset), _) | (None, Some(Ending::Reset(reset))) => Some(reset),
            _ => None,
        }
    }
}
