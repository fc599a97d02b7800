//! One session: its two directions, and how they end together.

use bytes::Bytes;

use crate::config::Config;
use crate::id::SessionId;
use crate::packet::Kind;
use crate::reason::{Cause, Reset};
use crate::receive_queue::{ReceiveQueue, ReceiveState};
use crate::scheduler::{Lane, Recent};
use crate::send_queue::{SendQueue, SendState};
use crate::seq::Seq;

/// How far a session's opening has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// We opened it; the peer has not said that its target is connected.
    Asked,
    /// The peer opened it; the driver has not answered. Holds the target.
    Offered(Bytes),
    /// The target is connected; or the peer opened it, and it was answered by
    /// a reset.
    Established,
}

/// Which list of acknowledgements that travel alone a session stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Listing {
    /// None.
    #[default]
    None,
    /// Those that wait for company.
    Delayed,
    /// Those to send now: once is enough, however much the peer leaves unread.
    Now,
}

/// A session of a tunnel.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) send: SendQueue,
    pub(crate) receive: ReceiveQueue,
    pub(crate) opening: Opening,
    /// Why the local socket is to be reset, where the peer did not say so.
    pub(crate) abort: Option<Reset>,
    /// Where it stands in the scheduler.
    pub(crate) lane: Lane,
    pub(crate) recent: Recent,
    /// The acknowledgement that the peer was last told.
    pub(crate) told: Seq,
    /// Cost delivered since then.
    pub(crate) untold: u64,
    /// Where its acknowledgement waits.
    pub(crate) ack_listing: Listing,
    /// The limit that the peer was last told.
    pub(crate) told_limit: u64,
    /// It stands in the list of limits to send.
    pub(crate) is_limit_listed: bool,
    /// The driver is yet to look at it.
    pub(crate) is_touched: bool,
}

impl Session {
    pub(crate) fn new(config: &Config, send_limit: u64, opening: Opening) -> Self {
        Self {
            send: SendQueue::new(config.first_seq, send_limit),
            receive: ReceiveQueue::new(config.first_seq, config.session_limit),
            opening,
            abort: None,
            lane: Lane::Idle,
            recent: Recent::default(),
            told: config.first_seq,
            untold: 0,
            ack_listing: Listing::default(),
            told_limit: config.session_limit,
            is_limit_listed: false,
            is_touched: false,
        }
    }

    /// Whether nothing is left to say or to hear, and nothing to tell the
    /// driver: the record can go.
    pub(crate) fn is_over(&self) -> bool {
        self.send.state == SendState::Done
            && self.receive.state == ReceiveState::Done
            && self.abort.is_none()
    }

    /// Whether it has something to send and waits for its turn on the carrier. A session that
    /// the peer's limits hold up waits for nothing of this side.
    pub(crate) fn awaits_turn(&self) -> bool {
        self.lane != Lane::Idle || !self.send.opening_is_sent()
    }

    /// The acknowledgement to send, if the peer was told another one.
    pub(crate) fn owes_ack(&self) -> bool {
        self.told != self.receive.delivered()
    }

    /// Whether the peer was told another limit.
    pub(crate) fn owes_limit(&self) -> bool {
        self.told_limit != self.receive.limit
    }

    /// The limit that goes into a packet now.
    pub(crate) fn tell_limit(&mut self) -> u64 {
        self.told_limit = self.receive.limit;
        self.told_limit
    }

    /// The acknowledgement that goes into a header now.
    pub(crate) fn tell_ack(&mut self) -> Seq {
        self.told = self.receive.delivered();
        self.untold = 0;
        self.told
    }

    /// The local socket is gone. The peer learns it after the data before.
    pub(crate) fn reset_by_driver(&mut self, reset: Reset) {
        self.abort = None;
        if self.receive.is_discarding {
            return;
        }
        self.withdraw_offer();
        let is_heard_out = self.receive.state == ReceiveState::Done;
        self.receive.discard();
        if !(is_heard_out && self.send.state == SendState::Done) {
            self.tell_reset(reset);
        }
    }

    /// A reason with what nobody knows the fate of.
    pub(crate) fn in_doubt(&self, why: &str) -> String {
        match self.send.in_doubt() {
            1 => format!("{why}; 1 byte sent is in doubt"),
            bytes => format!("{why}; {bytes} bytes sent are in doubt"),
        }
    }

    /// A peer that has reset the session itself has its answer already.
    fn tell_reset(&mut self, reset: Reset) {
        if !self.receive.is_reset {
            self.send.reset(reset);
        }
    }

    /// The session cannot go on: the peer is told at once, and the local
    /// socket is to be reset.
    pub(crate) fn fail(&mut self, reset: Reset) {
        if self.receive.is_discarding {
            return;
        }
        self.withdraw_offer();
        self.receive.discard();
        self.send.drop_backlog();
        self.tell_reset(reset.clone());
        self.abort = Some(reset);
    }

    /// The peer does not know the session any more: there is nobody to tell.
    pub(crate) fn lose(&mut self, reset: Reset) {
        let is_said =
            matches!(self.send.state, SendState::Ended | SendState::Reset | SendState::Done);
        let is_heard_out =
            self.receive.is_discarding || is_said && self.receive.state == ReceiveState::Done;
        self.send.cut(Reset::new(Cause::Unresumable));
        self.send.state = SendState::Done;
        if !is_heard_out {
            self.withdraw_offer();
            self.receive.discard();
            self.abort = Some(reset);
        }
        self.receive.state = ReceiveState::Done;
    }

    /// The peer has reset it: nothing of ours will be wanted.
    pub(crate) fn handle_reset(&mut self, seq: Seq, reset: Reset) {
        if self.send.state != SendState::Reset {
            self.send.cut(Reset::new(Cause::Application));
        }
        self.withdraw_offer();
        self.receive.receive_reset(seq, reset);
    }

    /// The driver is not to connect the target any more. Of a session that we
    /// opened, it stays to be seen whether its target was ever connected.
    fn withdraw_offer(&mut self) {
        if matches!(self.opening, Opening::Offered(_)) {
            self.opening = Opening::Established;
        }
    }

    /// The kind that must be the peer's first packet, beside a reset.
    pub(crate) fn awaited_opening(&self) -> Option<Kind> {
        (self.opening == Opening::Asked).then_some(Kind::Opened)
    }
}

/// What the driver is to do with a session's local socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// Nothing at present.
    Nothing,
    /// Write these bytes, and more of [`crate::Tunnel::deliverable`]; tell
    /// [`crate::Tunnel::delivered`] how many were taken.
    Data(&'a [u8]),
    /// Shut the socket's sending side; then tell [`crate::Tunnel::delivered_end`].
    End,
    /// Reset the socket, once its own queue is empty or makes no progress;
    /// then tell [`crate::Tunnel::delivered_reset`].
    Reset(&'a Reset),
}

impl Session {
    pub(crate) fn delivery(&self) -> Delivery<'_> {
        if let Some(reset) = &self.abort {
            return Delivery::Reset(reset);
        }
        if let Some(front) = self.receive.packets.front() {
            return Delivery::Data(&front[self.receive.offset..]);
        }
        match &self.receive.state {
            ReceiveState::Ended(_) => Delivery::End,
            ReceiveState::Reset(reset) => Delivery::Reset(reset),
            ReceiveState::Open | ReceiveState::Done => Delivery::Nothing,
        }
    }

    /// A reset that waits behind data, or is next.
    pub(crate) fn pending_reset(&self) -> Option<&Reset> {
        match (&self.abort, &self.receive.state) {
            (Some(reset), _) | (None, ReceiveState::Reset(reset)) => Some(reset),
            _ => None,
        }
    }
}

/// A session that ended with its tunnel, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The session.
    pub session: SessionId,
    /// Bytes taken from the local application of which nobody knows whether
    /// they were delivered.
    pub in_doubt: u64,
    /// Bytes received that the local application had not taken.
    pub undelivered: u64,
}
