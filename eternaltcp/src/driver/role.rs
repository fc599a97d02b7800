//! What differs between the client's and the server's end of a tunnel.

use std::net::SocketAddr;

use eternaltcp_proto::{
    Cause, Closing, Intent, Lost, Refusal, Reset, SessionId, Standby, Suspicion, Time, Tunnel,
};

use super::{CarrierEnd, CarrierIo, Offer};
use crate::client::{Listening, Notice};
use crate::log_limit::Admit;
use crate::status::TunnelStatus;

/// What a role decides.
pub(crate) enum Verdict {
    /// Go on.
    Continue,
    /// Bind this carrier: the client's commit.
    Attach(Box<CarrierIo>),
    /// Bind this carrier, which stands by for the tunnel.
    AttachStandby(Box<CarrierIo>, Box<Standby>),
    /// Have this carrier, which stands by for the tunnel, join the attached one.
    Join(Box<CarrierIo>, Box<Standby>),
    /// Forget the tunnel at the server and ask for a new one: sessions of
    /// which the server may have seen something are reset.
    Restart(Cause),
    /// The same where the server has connected none of the sessions that it did not answer: those
    /// wait for the new tunnel.
    MoveOn,
    /// Close the tunnel in order.
    Close(Closing),
    /// End at once: every socket is reset.
    End,
}

/// One end's part. A server's is to answer; a client's is to have a carrier,
/// too.
pub(crate) trait Role: Send {
    /// What to ask for at the first attach.
    fn intent(&self) -> Intent;
    /// How much is logged of the tunnel.
    fn log(&self) -> &dyn Admit;
    /// The carrier is bound.
    fn attached(
        &mut self,
        now: Time,
        is_resumed: bool,
        tunnel: &Tunnel,
        carrier: Option<&CarrierIo>,
    );
    /// The carrier is gone.
    fn detached(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) -> Verdict;
    /// The tunnel is to be made anew.
    fn restarted(&mut self, _now: Time) {}
    /// The peer refused the attach.
    fn refused(&mut self, _now: Time, _refusal: Refusal, _tunnel: &Tunnel) -> Verdict {
        Verdict::Continue
    }
    /// The peer closed the tunnel.
    fn closed(&mut self, why: Closing) -> Verdict;
    /// The tunnel is to be closed for this reason: what the peer is told.
    fn closing(&mut self, why: Closing, _tunnel: &Tunnel) -> Closing {
        why
    }
    /// The peer opened a session: connect its target.
    fn offered(&mut self, id: SessionId, target: &[u8]) -> Offer;
    /// A session was opened by which the server is to listen.
    fn listens(&mut self, _id: SessionId, _listening: Listening) {}
    /// A session's local socket ended with a reset.
    fn reset(&mut self, id: SessionId, reset: &Reset);
    /// Whether sessions may be forbidden that were not when this was asked last.
    fn has_new_rules(&mut self) -> bool {
        false
    }
    /// Why a session may not go on, if it may not: by what its opener asked for,
    /// and the address to which it is connected here.
    fn forbids(
        &self,
        _id: SessionId,
        _target: &[u8],
        _address: Option<SocketAddr>,
    ) -> Option<Reset> {
        None
    }
    /// A session cannot be resumed.
    fn lost(&mut self, lost: &Lost);
    /// The carrier is doubted, or (`None`) no longer.
    fn suspected(&mut self, _now: Time, _why: Option<Suspicion>, _tunnel: &Tunnel) {}
    /// Something for the client: of its dials, its network or its user.
    fn notice(&mut self, _now: Time, _notice: Notice, _tunnel: &mut Tunnel) -> Verdict {
        Verdict::Continue
    }
    /// Completes what is told of the tunnel by what this side alone knows.
    fn describe(&self, tunnel: &Tunnel, status: &mut TunnelStatus);
    /// The tunnel's limit is short: a higher one, if there is one for it now.
    fn grow(&mut self, _now: Time) -> Option<u64> {
        None
    }
    /// The last session has ended.
    fn idle(&mut self) -> Verdict {
        Verdict::Continue
    }
    /// A second has passed.
    fn tick(&mut self, _now: Time, _tunnel: &mut Tunnel) -> Verdict {
        Verdict::Continue
    }
    /// When [`Self::handle_timeout`] has something to do.
    fn poll_timeout(&self) -> Option<Time> {
        None
    }
    /// A time that the role waited for has come.
    fn handle_timeout(&mut self, _now: Time, _tunnel: &Tunnel) {}
}
