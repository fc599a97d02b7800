//! What the tunnel is to say on the attached carrier, beside the packets whose turn the
//! scheduler decides. It dies with the carrier.

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::SessionId;
use crate::seq::Seq;
use crate::session::Listing;
use crate::time::Time;
use crate::transmit::Transmit;

/// How long what nobody waits for may wait for a packet to travel with.
const DELAY: Duration = Duration::from_millis(25);

/// So many openings of sessions that are over are no burden.
const OPENINGS: usize = 64;

/// Lists of sessions, and single packets, that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Packets of the server's answer to the attach.
    answer: VecDeque<Transmit>,
    /// Sessions whose packet 0 is due, in the order of their ids.
    openings: VecDeque<SessionId>,
    /// Sessions whose acknowledgement is to travel alone.
    acks: VecDeque<SessionId>,
    /// Last acknowledgements of sessions without a record. They wait for a packet to
    /// travel with.
    final_acks: VecDeque<(SessionId, Seq)>,
    /// Sessions whose limit was raised.
    limits: VecDeque<SessionId>,
    delayed: Delayed,
    /// Something was sent since there was last nothing to send: what waits for a packet
    /// to travel with may be sent.
    is_coalescing: bool,
    /// The tunnel's limit was raised.
    is_limit_due: bool,
    /// The close was sent.
    is_close_sent: bool,
}

/// What nobody waits for: it travels with other packets, or a little later.
#[derive(Debug, Default)]
struct Delayed {
    /// Sessions that owe an acknowledgement.
    acks: Vec<SessionId>,
    /// Sessions that owe an answer to their opening, which has data behind it.
    openings: Vec<SessionId>,
    /// When all of it goes alone.
    deadline: Option<Time>,
}

impl Outbox {
    /// Has the server's answer to the attach sent, ahead of everything.
    pub(super) fn set_answer(&mut self, answer: VecDeque<Transmit>) {
        self.answer = answer;
    }

    pub(super) fn pop_answer(&mut self) -> Option<Transmit> {
        self.answer.pop_front()
    }

    /// Has packet 0 of a session sent. Sessions that are over by then are struck off
    /// now and then: of the `count` that there are, `is_known` says which.
    pub(super) fn push_opening(
        &mut self,
        id: SessionId,
        count: usize,
        is_known: impl Fn(SessionId) -> bool,
    ) {
        if self.openings.len() >= 2 * count + OPENINGS {
            self.openings.retain(|id| is_known(*id));
        }
        self.openings.push_back(id);
    }

    /// Has the answer to a session's opening sent with other packets, or a little later.
    pub(super) fn delay_opening(&mut self, now: Time, id: SessionId) {
        self.delayed.openings.push(id);
        self.wait(now);
    }

    pub(super) fn pop_opening(&mut self) -> Option<SessionId> {
        self.openings.pop_front()
    }

    /// Has a session's acknowledgement sent, as it is listed.
    pub(super) fn push_ack(&mut self, now: Time, id: SessionId, listing: Listing) {
        match listing {
            Listing::Now => self.acks.push_back(id),
            Listing::Delayed => {
                self.delayed.acks.push(id);
                self.wait(now);
            }
            Listing::None => {}
        }
    }

    pub(super) fn pop_ack(&mut self) -> Option<SessionId> {
        self.acks.pop_front()
    }

    /// Has the last acknowledgement of a session sent that has no record any more.
    pub(super) fn push_final_ack(&mut self, id: SessionId, ack: Seq) {
        self.final_acks.push_back((id, ack));
    }

    /// How many last acknowledgements wait.
    pub(super) fn final_acks(&self) -> usize {
        self.final_acks.len()
    }

    /// A last acknowledgement, if there is a packet for it to travel with: one that was
    /// sent, or one that `follows`.
    pub(super) fn pop_final_ack(&mut self, follows: bool) -> Option<(SessionId, Seq)> {
        if self.is_coalescing || follows { self.final_acks.pop_front() } else { None }
    }

    /// Has a session's limit sent.
    pub(super) fn push_limit(&mut self, id: SessionId) {
        self.limits.push_back(id);
    }

    pub(super) fn pop_limit(&mut self) -> Option<SessionId> {
        self.limits.pop_front()
    }

    /// Has the tunnel's limit sent.
    pub(super) fn set_limit_due(&mut self) {
        self.is_limit_due = true;
    }

    /// Whether the tunnel's limit is to be sent, once.
    pub(super) fn take_limit_due(&mut self) -> bool {
        std::mem::take(&mut self.is_limit_due)
    }

    /// Whether the close is to be sent, once.
    pub(super) fn take_close_due(&mut self) -> bool {
        !std::mem::replace(&mut self.is_close_sent, true)
    }

    /// Whether the close was sent.
    pub(super) fn is_close_sent(&self) -> bool {
        self.is_close_sent
    }

    fn wait(&mut self, now: Time) {
        self.delayed.deadline.get_or_insert(now + DELAY);
    }

    /// When what has waited for a packet to travel with goes alone.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.delayed.deadline
    }

    /// What has waited for a packet to travel with goes alone, if it is time.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.delayed.deadline.take_if(|at| *at <= now).is_some() {
            self.acks.extend(self.delayed.acks.drain(..));
            self.openings.extend(self.delayed.openings.drain(..));
            self.is_coalescing = true;
        }
    }

    /// Something is sent now, or nothing is left to send: what comes next is
    /// another time's, and last acknowledgements wait for it.
    pub(super) fn note_coalescing(&mut self, now: Time, is_sent: bool) {
        self.is_coalescing = is_sent;
        if !is_sent && !self.final_acks.is_empty() {
            self.wait(now);
        }
    }

    /// The length of all lists.
    pub(super) fn len(&self) -> usize {
        let delayed = self.delayed.acks.len() + self.delayed.openings.len();
        let ready = self.answer.len() + self.openings.len() + self.acks.len();
        delayed + ready + self.final_acks.len() + self.limits.len()
    }
}
