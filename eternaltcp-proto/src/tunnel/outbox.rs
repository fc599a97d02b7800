//! The packets that the tunnel has to send on the lead, in addition to those that the
//! scheduler orders. They are dropped with the carrier.

use std::collections::VecDeque;
use std::time::Duration;

use crate::announcement::Topic;
use crate::id::SessionId;
use crate::seq::Seq;
use crate::session::Listing;
use crate::time::Time;
use crate::transmit::Transmit;

/// The time for which a packet that is not urgent may wait for another one to travel with.
const DELAY: Duration = Duration::from_millis(25);

/// Up to this many opening packets of ended sessions are kept without tidying up.
const OPENINGS: usize = 64;

/// Lists of sessions, and single packets, that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Packets of the server's answer to the attach.
    answer: VecDeque<Transmit>,
    /// The topics of which the server has something to state. Each is listed once.
    announcements: VecDeque<Topic>,
    /// Sessions whose packet 0 is due, in the order of their ids.
    openings: VecDeque<SessionId>,
    /// Sessions whose acknowledgement must be sent without data.
    acks: VecDeque<SessionId>,
    /// The last acknowledgements of sessions without a record. They wait for a packet to travel
    /// with.
    final_acks: VecDeque<(SessionId, Seq)>,
    /// Sessions whose limit was raised.
    limits: VecDeque<SessionId>,
    delayed: Delayed,
    /// Whether something was sent since the outbox was last empty, so that delayed packets may be
    /// sent with it.
    is_coalescing: bool,
    /// Whether the tunnel's limit was raised.
    is_limit_due: bool,
    /// Whether the close was sent.
    is_close_sent: bool,
}

/// Packets that are not urgent: they travel with others, or a little later.
#[derive(Debug, Default)]
struct Delayed {
    /// Sessions that owe an acknowledgement.
    acks: Vec<SessionId>,
    /// Sessions that owe an answer to their opening, with data behind it.
    openings: Vec<SessionId>,
    /// The time at which all of the delayed packets are sent in any case.
    deadline: Option<Time>,
}

impl Outbox {
    /// Queues the server's answer to the attach, before everything else.
    pub(super) fn set_answer(&mut self, answer: VecDeque<Transmit>) {
        self.answer = answer;
    }

    pub(super) fn pop_answer(&mut self) -> Option<Transmit> {
        self.answer.pop_front()
    }

    /// Queues the announcement about a topic.
    pub(super) fn push_announcement(&mut self, topic: Topic) {
        if !self.announcements.contains(&topic) {
            self.announcements.push_back(topic);
        }
    }

    pub(super) fn pop_announcement(&mut self) -> Option<Topic> {
        self.announcements.pop_front()
    }

    /// Queues packet 0 of a session. Sessions that have ended are removed now and then: `is_known`
    /// says which of the `count` sessions still exist.
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

    /// Queues the answer to a session's opening, to be sent with other packets or a little later.
    pub(super) fn delay_opening(&mut self, now: Time, id: SessionId) {
        self.delayed.openings.push(id);
        self.wait(now);
    }

    pub(super) fn pop_opening(&mut self) -> Option<SessionId> {
        self.openings.pop_front()
    }

    /// Queues a session's acknowledgement, as it is listed.
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

    /// Queues the last acknowledgement of a session that has no record any more.
    pub(super) fn push_final_ack(&mut self, id: SessionId, ack: Seq) {
        self.final_acks.push_back((id, ack));
    }

    /// Returns how many last acknowledgements wait.
    pub(super) fn final_acks(&self) -> usize {
        self.final_acks.len()
    }

    /// Returns a last acknowledgement, if there is a packet for it to travel with: one that was
    /// sent, or one that `follows`.
    pub(super) fn pop_final_ack(&mut self, follows: bool) -> Option<(SessionId, Seq)> {
        if self.is_coalescing || follows { self.final_acks.pop_front() } else { None }
    }

    /// Queues a session's limit.
    pub(super) fn push_limit(&mut self, id: SessionId) {
        self.limits.push_back(id);
    }

    pub(super) fn pop_limit(&mut self) -> Option<SessionId> {
        self.limits.pop_front()
    }

    /// Queues the tunnel's limit.
    pub(super) fn set_limit_due(&mut self) {
        self.is_limit_due = true;
    }

    /// Returns whether to send the tunnel's limit, once.
    pub(super) fn take_limit_due(&mut self) -> bool {
        std::mem::take(&mut self.is_limit_due)
    }

    /// Returns whether to send the close, once.
    pub(super) fn take_close_due(&mut self) -> bool {
        !std::mem::replace(&mut self.is_close_sent, true)
    }

    /// Returns whether the close was sent.
    pub(super) fn is_close_sent(&self) -> bool {
        self.is_close_sent
    }

    fn wait(&mut self, now: Time) {
        self.delayed.deadline.get_or_insert(now + DELAY);
    }

    /// Returns the time at which waiting packets are sent without another to travel with.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.delayed.deadline
    }

    /// Moves delayed acknowledgements and openings to the packets to send, if they are due.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.delayed.deadline.take_if(|at| *at <= now).is_some() {
            self.acks.extend(self.delayed.acks.drain(..));
            self.openings.extend(self.delayed.openings.drain(..));
            self.is_coalescing = true;
        }
    }

    /// Records whether something is sent now, or nothing is left to send. Last acknowledgements
    /// wait for the next time something is sent.
    pub(super) fn note_coalescing(&mut self, now: Time, is_sent: bool) {
        self.is_coalescing = is_sent;
        if !is_sent && !self.final_acks.is_empty() {
            self.wait(now);
        }
    }

    /// Returns the length of all lists.
    pub(super) fn len(&self) -> usize {
        let delayed = self.delayed.acks.len() + self.delayed.openings.len();
        let words = self.answer.len() + self.announcements.len();
        let ready = words + self.openings.len() + self.acks.len();
        delayed + ready + self.final_acks.len() + self.limits.len()
    }
}
