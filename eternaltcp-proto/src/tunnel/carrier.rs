//! One carrier of a tunnel: its stage, and the state that is dropped with it.

use std::collections::VecDeque;

use super::outbox::Outbox;
use crate::attach::{AttachAnswer, Hello};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::Epoch;
use crate::liveness::Liveness;
use crate::numbers::Numbers;
use crate::packet::{Header, Kind};
use crate::request::{AttachRequest, PartialRequest};
use crate::seq::Seq;
use crate::standby::{Question, Standby, join, read_join};
use crate::time::Time;
use crate::transmit::Transmit;

/// A carrier of a tunnel. No id is used twice in a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CarrierId(u32);

impl CarrierId {
    pub(super) const FIRST: Self = Self(0);

    /// Returns the number after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// One carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    id: CarrierId,
    pub(super) decoder: Decoder,
    pub(super) liveness: Liveness,
    pub(super) stage: CarrierStage,
    /// A client's attach that is arriving on it.
    pub(super) request: Option<Box<PartialRequest>>,
}

/// The stage of a carrier.
#[derive(Debug)]
pub(super) enum CarrierStage {
    /// It stands by, or the client has asked the server to let it.
    StandingBy(Box<Standby>),
    /// The client has asked for it to be bound, and the server's answer is not complete.
    Attaching(Box<Attaching>),
    /// It is bound: it carries everything.
    Lead(Box<Outbox>),
    /// It was the lead of an attach that is over, because a joined carrier was lost. The client may
    /// attach it again.
    Deposed,
    /// It carries data in addition to the lead.
    Joined(Agreement),
}

/// A client's attach in progress.
#[derive(Debug)]
pub(super) struct Attaching {
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
    /// Whether the carrier carried data before: packets that arrive before the answer belong to
    /// that time.
    pub(super) is_reused: bool,
}

/// The progress of a request to join.
#[derive(Debug)]
pub(super) enum Agreement {
    /// The client has asked, or is about to.
    Asking(Question),
    /// The server has to answer the first request.
    AnswerDue,
    /// The server has to answer the request to join another attach. The client may send a further
    /// request before the answer: a join of the next attach, or an attach on this carrier.
    AnswerDueAgain,
    /// It has joined.
    Done,
    /// The attach that it had joined is over, and packets that still arrive belong to it. At the
    /// server: the client has asked to join the attach with this epoch, which has not arrived yet.
    Paused(Option<Epoch>),
    /// The client has asked to join the next attach, or is about to.
    AskingAgain(Question),
}

impl Attaching {
    /// Returns whether a packet is the echo that crossed the request. That is possible once.
    pub(super) fn is_late_echo(&mut self, header: &Header) -> bool {
        header.session == 0 && self.awaited_echo.take_if(|beat| *beat == header.ack).is_some()
    }
}

impl Carrier {
    pub(super) fn new(
        id: CarrierId,
        decoder: Decoder,
        liveness: Liveness,
        stage: CarrierStage,
    ) -> Self {
        Self { id, decoder, liveness, stage, request: None }
    }

    pub(super) fn id(&self) -> CarrierId {
        self.id
    }

    /// Returns whether it is bound, or has asked to be.
    pub(super) fn is_current(&self) -> bool {
        matches!(self.stage, CarrierStage::Attaching(_) | CarrierStage::Lead(_))
    }

    pub(super) fn is_joined(&self) -> bool {
        matches!(self.stage, CarrierStage::Joined(_))
    }

    /// Returns its stage as a carrier that stands by, or has asked to.
    pub(super) fn standby(&self) -> Option<&Standby> {
        match &self.stage {
            CarrierStage::StandingBy(standby) => Some(standby),
            _ => None,
        }
    }

    /// Returns whether it belongs to an attach: to the current one, to one that is over, or to the
    /// one that is requested.
    pub(super) fn is_of_attach(&self) -> bool {
        self.standby().is_none()
    }

    /// Returns whether it has joined and both sides know that, so that data may pass.
    pub(super) fn is_open_beside(&self) -> bool {
        matches!(
            self.stage,
            CarrierStage::Joined(
                Agreement::AnswerDue | Agreement::AnswerDueAgain | Agreement::Done
            )
        )
    }

    /// Returns whether data may have been sent on it since the last attach.
    pub(super) fn carries_data(&self) -> bool {
        matches!(self.stage, CarrierStage::Lead(_)) || self.is_open_beside()
    }

    /// Returns whether packets on it, except signs of life, belong to an attach that is over.
    pub(super) fn is_stale(&self) -> bool {
        match &self.stage {
            CarrierStage::Attaching(attaching) => attaching.is_reused && attaching.answer.is_none(),
            CarrierStage::Deposed => true,
            CarrierStage::Joined(agreement) => {
                matches!(agreement, Agreement::Paused(_) | Agreement::AskingAgain(_))
            }
            CarrierStage::Lead(_) | CarrierStage::StandingBy(_) => false,
        }
    }

    /// Returns whether an attach may be sent on it: its first request was answered, and it is not
    /// doubted.
    pub(super) fn may_take_over(&self) -> bool {
        let is_agreed = match &self.stage {
            CarrierStage::StandingBy(_)
            | CarrierStage::Attaching(_)
            | CarrierStage::Joined(Agreement::Asking(_)) => false,
            CarrierStage::Lead(_) | CarrierStage::Deposed | CarrierStage::Joined(_) => true,
        };
        is_agreed && self.liveness.suspicion().is_none()
    }

    /// Begins to receive a client's attach.
    pub(super) fn begin_request(&mut self, hello: Hello) {
        self.request = Some(Box::new(PartialRequest::new(hello)));
    }

    /// Takes the client's attach that has arrived on the carrier, once it is complete.
    pub(super) fn take_request(&mut self) -> Option<AttachRequest> {
        let request = self.request.take_if(|request| request.is_complete())?;
        Some(request.finish(Decoder::default()))
    }

    /// Records that the carrier's attach is over. Returns whether the carrier may belong to the
    /// next attach.
    pub(super) fn pause(&mut self) -> bool {
        match &mut self.stage {
            CarrierStage::Joined(Agreement::Asking(_)) => false,
            CarrierStage::StandingBy(_) | CarrierStage::Joined(Agreement::Paused(_)) => true,
            CarrierStage::Joined(agreement) => {
                *agreement = Agreement::Paused(None);
                true
            }
            CarrierStage::Attaching(_) | CarrierStage::Lead(_) | CarrierStage::Deposed => {
                self.stage = CarrierStage::Deposed;
                true
            }
        }
    }

    /// Handles the client's request to join an attach on a carrier that had joined an earlier one:
    /// the server's part.
    fn handle_join_again(&mut self, current: Epoch, epoch: Epoch) -> Result<(), Violation> {
        let CarrierStage::Joined(agreement) = &mut self.stage else {
            return Err(Violation::OutOfPlace(Kind::Join));
        };
        match agreement {
            Agreement::Done | Agreement::AnswerDueAgain | Agreement::Paused(_)
                if epoch > current =>
            {
                *agreement = Agreement::Paused(Some(epoch));
            }
            Agreement::Paused(_) if epoch == current => *agreement = Agreement::AnswerDueAgain,
            // A later attach has overtaken this request.
            Agreement::Paused(_) => {}
            _ => return Err(Violation::OutOfPlace(Kind::Join)),
        }
        Ok(())
    }

    /// Records that the server has bound the attach with this epoch on another carrier.
    pub(super) fn handle_bound(&mut self, epoch: Epoch) {
        if let CarrierStage::Joined(Agreement::Paused(asked)) = &mut self.stage
            && asked.take() == Some(epoch)
        {
            self.stage = CarrierStage::Joined(Agreement::AnswerDueAgain);
        }
    }

    /// Handles a packet on a joined carrier that belongs to no session. `may_rejoin` is set if it
    /// may join several attaches, one after the other.
    pub(super) fn handle_joined(
        &mut self,
        now: Time,
        (epoch, may_rejoin): (Epoch, bool),
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match (header.kind, &mut self.stage) {
            (Kind::Join, CarrierStage::Joined(agreement @ Agreement::Asking(_))) => {
                if read_join(payload)? != epoch {
                    return Err(Violation::WrongAnswer);
                }
                *agreement = Agreement::Done;
            }
            (
                Kind::Join,
                CarrierStage::Joined(
                    agreement @ (Agreement::AskingAgain(_) | Agreement::Paused(_)),
                ),
            ) if !self.liveness.is_listening() => {
                let joined = read_join(payload)?;
                // The answer to an earlier request may still come.
                if joined > epoch {
                    return Err(Violation::WrongAnswer);
                }
                if joined == epoch && matches!(agreement, Agreement::AskingAgain(_)) {
                    *agreement = Agreement::Done;
                }
            }
            (Kind::Join, _) if may_rejoin && self.liveness.is_listening() => {
                self.handle_join_again(epoch, read_join(payload)?)?;
            }
            (Kind::Echo, _) if self.liveness.handle_echo(now, header.ack) => {}
            (Kind::Heartbeat, _) if self.liveness.is_listening() => {
                self.liveness.handle_heartbeat(header.seq);
            }
            (kind, _) => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// Returns the next packet of a joined carrier that goes before data.
    pub(super) fn poll_joined(&mut self, now: Time, epoch: Epoch) -> Option<Transmit> {
        let is_join_due = match &mut self.stage {
            CarrierStage::Joined(
                Agreement::Asking(question) | Agreement::AskingAgain(question),
            ) => question.send(now),
            CarrierStage::Joined(
                agreement @ (Agreement::AnswerDue | Agreement::AnswerDueAgain),
            ) => {
                *agreement = Agreement::Done;
                true
            }
            _ => false,
        };
        if is_join_due { Some(join(epoch)) } else { self.liveness.poll_transmit(now) }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let liveness = self.liveness.poll_timeout();
        match &self.stage {
            CarrierStage::StandingBy(standby) => standby.poll_timeout(&self.liveness),
            CarrierStage::Joined(
                Agreement::Asking(question) | Agreement::AskingAgain(question),
            ) => question.poll_timeout().min(liveness),
            _ => liveness,
        }
    }

    /// Returns whether the carrier still counts as alive.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        let is_late = match &mut self.stage {
            CarrierStage::StandingBy(standby) => {
                return standby.handle_timeout(now, &mut self.liveness);
            }
            CarrierStage::Joined(
                Agreement::Asking(question) | Agreement::AskingAgain(question),
            ) => question.handle_timeout(now),
            _ => false,
        };
        self.liveness.handle_timeout(now) && !is_late
    }
}
