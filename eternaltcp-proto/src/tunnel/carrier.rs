//! What belongs to one carrier, and dies with it.

use std::collections::VecDeque;
use std::time::Duration;

use super::joined::Joined;
use crate::attach::AttachAnswer;
use crate::decoder::Decoder;
use crate::id::SessionId;
use crate::liveness::Liveness;
use crate::numbers::Numbers;
use crate::reorder::ReorderBuffer;
use crate::seq::Seq;
use crate::time::Time;
use crate::transmit::Transmit;

/// How long what nobody waits for may wait for a packet to travel with.
const DELAY: Duration = Duration::from_millis(25);

/// The tunnel's relation to a carrier.
#[derive(Debug)]
pub(super) enum Carrier {
    /// There is none.
    Detached,
    /// The client has asked, and the server has not answered whole.
    Attaching(Box<Attaching>),
    /// It is bound.
    Attached(Box<Attached>),
}

/// A client's attach on its way.
#[derive(Debug)]
pub(super) struct Attaching {
    pub(super) decoder: Decoder,
    pub(super) liveness: Liveness,
    /// Packets of the request that are yet to be sent.
    pub(super) request: VecDeque<Transmit>,
    /// The tunnel's limit that the request tells.
    pub(super) advertised_limit: u64,
    /// Sessions that the request lists: the answer has no more.
    pub(super) listed: usize,
    pub(super) answer: Option<AttachAnswer>,
    pub(super) numbers: Vec<Numbers>,
    /// A heartbeat of the carrier's time on standby: its echo may come before
    /// the answer.
    pub(super) awaited_echo: Option<Seq>,
}

/// A bound carrier.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) decoder: Decoder,
    pub(super) liveness: Liveness,
    /// Packets of the server's answer that are yet to be sent.
    pub(super) answer: VecDeque<Transmit>,
    /// Sessions whose packet 0 is due, in the order of their ids.
    pub(super) openings: VecDeque<SessionId>,
    /// Sessions whose acknowledgement is to travel alone.
    pub(super) acks: VecDeque<SessionId>,
    /// Last acknowledgements of sessions without a record. They wait for a packet to
    /// travel with.
    pub(super) final_acks: VecDeque<(SessionId, Seq)>,
    /// What else waits for a packet to travel with.
    pub(super) delayed: Delayed,
    /// Something was sent since there was last nothing to send: what waits for a packet
    /// to travel with may be sent.
    pub(super) is_coalescing: bool,
    /// Sessions whose limit was raised.
    pub(super) limits: VecDeque<SessionId>,
    /// Carriers that carry bulk beside it.
    pub(super) joined: Vec<Joined>,
    /// What came on one of them before its turn.
    pub(super) reorder: ReorderBuffer,
    /// The tunnel's limit was raised.
    pub(super) is_limit_due: bool,
    /// The close was sent.
    pub(super) is_closing_sent: bool,
}

/// What nobody waits for: it travels with other packets, or a little later.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    /// Sessions that owe an acknowledgement.
    pub(super) acks: Vec<SessionId>,
    /// Sessions that owe an answer to their opening, which has data behind it.
    pub(super) openings: Vec<SessionId>,
    /// When all of it goes alone.
    deadline: Option<Time>,
}

impl Delayed {
    /// Something waits from now on.
    pub(super) fn wait(&mut self, now: Time) {
        self.deadline.get_or_insert(now + DELAY);
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.deadline
    }
}

impl Attached {
    pub(super) fn new(decoder: Decoder, liveness: Liveness) -> Self {
        Self {
            decoder,
            liveness,
            answer: VecDeque::new(),
            openings: VecDeque::new(),
            acks: VecDeque::new(),
            final_acks: VecDeque::new(),
            delayed: Delayed::default(),
            is_coalescing: false,
            limits: VecDeque::new(),
            joined: Vec::new(),
            reorder: ReorderBuffer::default(),
            is_limit_due: false,
            is_closing_sent: false,
        }
    }

    /// What has waited for a packet to travel with goes alone, if it is time.
    pub(super) fn release_delayed(&mut self, now: Time) {
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
            self.delayed.wait(now);
        }
    }

    /// The length of all lists of what is to be said.
    pub(super) fn words_waiting(&self) -> usize {
        let delayed = self.delayed.acks.len() + self.delayed.openings.len();
        let ready = self.answer.len() + self.openings.len() + self.acks.len();
        delayed + ready + self.final_acks.len() + self.limits.len()
    }

    /// Whether a joined carrier takes data.
    pub(super) fn has_open_joined(&self) -> bool {
        self.joined.iter().any(Joined::is_open)
    }
}

impl Carrier {
    pub(super) fn liveness_mut(&mut self) -> Option<&mut Liveness> {
        match self {
            Self::Detached => None,
            Self::Attaching(attaching) => Some(&mut attaching.liveness),
            Self::Attached(attached) => Some(&mut attached.liveness),
        }
    }

    pub(super) fn liveness(&self) -> Option<&Liveness> {
        match self {
            Self::Detached => None,
            Self::Attaching(attaching) => Some(&attaching.liveness),
            Self::Attached(attached) => Some(&attached.liveness),
        }
    }
}
