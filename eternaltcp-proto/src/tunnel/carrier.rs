//! What belongs to one carrier, and dies with it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::joined::Joined;
use crate::attach::{Answer, Numbers};
use crate::decoder::Decoder;
use crate::id::SessionId;
use crate::liveness::Liveness;
use crate::packet::Header;
use crate::reorder::Reorder;
use crate::seq::Seq;
use crate::time::Time;

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
    pub(super) request: VecDeque<(Header, Bytes)>,
    /// Sessions that the request lists: the answer has no more.
    pub(super) listed: usize,
    pub(super) answer: Option<Answer>,
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
    pub(super) answer: VecDeque<(Header, Bytes)>,
    /// Sessions whose packet 0 is due, in the order of their ids.
    pub(super) openings: VecDeque<SessionId>,
    /// Sessions whose acknowledgement is to travel alone.
    pub(super) acks: VecDeque<SessionId>,
    /// Sessions that owe an acknowledgement, which may yet find company.
    pub(super) delayed_acks: Vec<SessionId>,
    /// When those go alone.
    pub(super) ack_deadline: Option<Time>,
    /// Last acknowledgements of sessions without a record.
    pub(super) farewells: VecDeque<(SessionId, Seq)>,
    /// Sessions whose limit was raised.
    pub(super) limits: VecDeque<SessionId>,
    /// Carriers that carry bulk beside it.
    pub(super) joined: Vec<Joined>,
    /// What came on one of them before its turn.
    pub(super) reorder: Reorder,
    /// The tunnel's limit was raised.
    pub(super) is_limit_due: bool,
    /// The close was sent.
    pub(super) is_closing_sent: bool,
}

impl Attached {
    pub(super) fn new(decoder: Decoder, liveness: Liveness) -> Self {
        Self {
            decoder,
            liveness,
            answer: VecDeque::new(),
            openings: VecDeque::new(),
            acks: VecDeque::new(),
            delayed_acks: Vec::new(),
            ack_deadline: None,
            farewells: VecDeque::new(),
            limits: VecDeque::new(),
            joined: Vec::new(),
            reorder: Reorder::default(),
            is_limit_due: false,
            is_closing_sent: false,
        }
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
