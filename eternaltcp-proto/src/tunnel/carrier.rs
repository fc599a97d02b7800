//! The state that belongs to one carrier and is dropped with it.

use std::collections::VecDeque;

use super::joined::{Joined, JoinedId};
use super::outbox::Outbox;
use crate::attach::AttachAnswer;
use crate::decoder::Decoder;
use crate::liveness::Liveness;
use crate::numbers::Numbers;
use crate::reorder::ReorderBuffer;
use crate::seq::Seq;
use crate::transmit::Transmit;

/// The tunnel's relation to a carrier.
#[derive(Debug)]
pub(super) enum Carrier {
    /// There is none.
    Detached,
    /// The client has asked, and the server's answer is not complete.
    Attaching(Box<Attaching>),
    /// It is bound.
    Attached(Box<Attached>),
}

/// A client's attach in progress.
#[derive(Debug)]
pub(super) struct Attaching {
    pub(super) decoder: Decoder,
    pub(super) liveness: Liveness,
    /// Packets of the request that are still to be sent.
    pub(super) request: VecDeque<Transmit>,
    /// The tunnel's limit that the request states.
    pub(super) advertised_limit: u64,
    /// Sessions that the request lists. The answer cannot have more.
    pub(super) listed: usize,
    pub(super) answer: Option<AttachAnswer>,
    pub(super) numbers: Vec<Numbers>,
    /// A heartbeat sent while the carrier stood by: its echo may come before the answer.
    pub(super) awaited_echo: Option<Seq>,
}

/// A bound carrier.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) decoder: Decoder,
    pub(super) liveness: Liveness,
    pub(super) outbox: Outbox,
    /// Carriers that carry bulk in addition to this one.
    pub(super) joined: Vec<Joined>,
    /// Packets that arrived on one of them out of order.
    pub(super) reorder: ReorderBuffer,
}

impl Attached {
    pub(super) fn new(decoder: Decoder, liveness: Liveness) -> Self {
        Self {
            decoder,
            liveness,
            outbox: Outbox::default(),
            joined: Vec::new(),
            reorder: ReorderBuffer::default(),
        }
    }

    /// Returns whether a joined carrier accepts data.
    pub(super) fn has_open_joined(&self) -> bool {
        self.joined.iter().any(Joined::is_open)
    }
}

/// The carriers of a tunnel.
#[derive(Debug)]
pub(super) struct Carriers {
    current: Carrier,
    /// The number of the next joined carrier.
    next_joined: JoinedId,
    /// Whether the driver was told of a doubt about one of them.
    is_suspected: bool,
}

impl Carriers {
    /// Creates the carriers of a tunnel that has none.
    pub(super) fn new() -> Self {
        Self { current: Carrier::Detached, next_joined: JoinedId::FIRST, is_suspected: false }
    }

    pub(super) fn current(&self) -> &Carrier {
        &self.current
    }

    pub(super) fn current_mut(&mut self) -> &mut Carrier {
        &mut self.current
    }

    pub(super) fn attached(&self) -> Option<&Attached> {
        match &self.current {
            Carrier::Attached(attached) => Some(attached),
            _ => None,
        }
    }

    pub(super) fn attached_mut(&mut self) -> Option<&mut Attached> {
        match &mut self.current {
            Carrier::Attached(attached) => Some(attached),
            _ => None,
        }
    }

    pub(super) fn attaching_mut(&mut self) -> Option<&mut Attaching> {
        match &mut self.current {
            Carrier::Attaching(attaching) => Some(attaching),
            _ => None,
        }
    }

    /// Drops all carriers.
    pub(super) fn detach(&mut self) {
        (self.current, self.is_suspected) = (Carrier::Detached, false);
    }

    /// Records that a carrier is asked to be bound.
    pub(super) fn begin(&mut self, attaching: Attaching) {
        self.current = Carrier::Attaching(Box::new(attaching));
    }

    /// Records that a carrier is bound.
    pub(super) fn bind(&mut self, attached: Attached) {
        self.current = Carrier::Attached(Box::new(attached));
    }

    /// Takes the attach in progress, to bind its carrier.
    pub(super) fn take_attaching(&mut self) -> Option<Attaching> {
        match std::mem::replace(&mut self.current, Carrier::Detached) {
            Carrier::Attaching(attaching) => Some(*attaching),
            other => {
                self.current = other;
                None
            }
        }
    }

    /// Adds a carrier that joins the attached one, if there is one.
    pub(super) fn join(&mut self, make: impl FnOnce(JoinedId) -> Joined) -> Option<JoinedId> {
        let id = self.next_joined;
        self.attached_mut()?.joined.push(make(id));
        self.next_joined = id.next();
        Some(id)
    }

    /// Returns the liveness of the carrier that is bound, or is asked to be.
    pub(super) fn liveness(&self) -> Option<&Liveness> {
        match &self.current {
            Carrier::Detached => None,
            Carrier::Attaching(attaching) => Some(&attaching.liveness),
            Carrier::Attached(attached) => Some(&attached.liveness),
        }
    }

    /// Returns the same as [`Self::liveness`], for changes.
    pub(super) fn liveness_mut(&mut self) -> Option<&mut Liveness> {
        match &mut self.current {
            Carrier::Detached => None,
            Carrier::Attaching(attaching) => Some(&mut attaching.liveness),
            Carrier::Attached(attached) => Some(&mut attached.liveness),
        }
    }

    /// Returns the decoder of the carrier that is bound, or is asked to be.
    pub(super) fn decoder_mut(&mut self) -> Option<&mut Decoder> {
        match &mut self.current {
            Carrier::Detached => None,
            Carrier::Attaching(attaching) => Some(&mut attaching.decoder),
            Carrier::Attached(attached) => Some(&mut attached.decoder),
        }
    }

    /// Records whether any of them is doubted. Returns whether that is new.
    pub(super) fn note_suspicion(&mut self, is_suspected: bool) -> bool {
        std::mem::replace(&mut self.is_suspected, is_suspected) != is_suspected
    }
}
