//! The differences between the client's and the server's end of a tunnel.

use std::fmt;
use std::net::SocketAddr;

use eternaltcp_proto::{
    Announcement, AttachRequest, CarrierId, Cause, Closing, Intent, JoinRequest, Lost, Refusal,
    Reset, SessionId, Stats, Suspicion, Time, Tunnel, TunnelId,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{CarrierEnd, CarrierIo, DrivenCarriers, Offer, SessionNews, Sockets, TotalCounts};
use crate::log_limit::Admit;
use crate::net::stream::Stream;
use crate::status::TunnelStatus;

/// An action that a role requests from the driver.
pub(crate) enum Action {
    /// Ask for this carrier to be bound: the client's commitment. `new` is the request for a tunnel
    /// that has no id yet.
    Attach { carrier: Box<CarrierIo>, new: Box<Intent> },
    /// Serve this carrier, which the role kept in standby for the tunnel.
    StandBy { id: CarrierId, carrier: Box<CarrierIo> },
    /// Ask for a carrier that stands by to be bound.
    AttachStandby(CarrierId),
    /// Ask for a carrier that the tunnel has to be bound in place of the lead.
    TakeOver,
    /// Ask for a carrier that stands by to join the attached one.
    Join(CarrierId),
    /// Find out whether a carrier that stands by is alive.
    ProbeStandby(CarrierId),
    /// Close a carrier that stands by.
    CloseStandby(CarrierId),
    /// Take a carrier that stands by out of the tunnel: [`Change::Left`] has it. Then keep the note
    /// about the tunnel, and report that.
    Leave(CarrierId, oneshot::Sender<()>),
    /// Bind a carrier, as the client asks: the server's part of an attach.
    AcceptAttach { id: TunnelId, request: Box<AttachRequest>, carrier: Box<CarrierIo> },
    /// Let a carrier join the attached one, as the client asks.
    AcceptJoin { request: Box<JoinRequest>, carrier: Box<CarrierIo> },
    /// Serve this local socket for a session that the role has opened.
    Serve { session: SessionId, stream: Stream, target: Bytes },
    /// Abandon the tunnel at the server and ask for a new one. Sessions that the server may have
    /// seen are reset.
    Restart(Cause),
    /// Ask for a new tunnel. The sessions that the server did not answer wait for it, because the
    /// server has connected none of them.
    MoveOn,
    /// State something about this server to the client.
    Announce(Announcement),
    /// Close the tunnel in order.
    Close(Closing),
    /// Keep what [`Role::note`] returns, which has changed.
    Keep,
    /// End at once: every socket is reset.
    End,
}

/// A change of a tunnel's carrier, or of the tunnel at the peer.
pub(crate) enum Change<'a> {
    /// A carrier is bound.
    Attached { is_resumed: bool, carrier: Option<&'a CarrierIo> },
    /// The carrier is gone.
    Lost(&'a CarrierEnd),
    /// The carrier, or one that has joined it, is suspected to be dead, or the reason for the
    /// suspicion has changed.
    Suspected(Suspicion),
    /// No carrier is suspected any longer.
    Relieved,
    /// The peer refused the attach.
    Refused(Refusal),
    /// The server states something about itself.
    Announced(Announcement),
    /// The peer's attach was refused: this carrier is not bound.
    Rejected { peer: SocketAddr, refusal: Refusal },
    /// The peer closed the tunnel.
    Closed(Closing),
    /// A carrier stands by.
    StandsBy(CarrierId),
    /// A carrier that stands by owes an answer, or has given it.
    StandbyDoubted(CarrierId, bool),
    /// A carrier that was to stand by is gone, for this reason.
    StandbyLost(CarrierId, String),
    /// A carrier that stood by has left the tunnel, unless it was lost before.
    Left(Option<Box<CarrierIo>>),
}

/// The decisions of one end. A server answers. A client also makes sure that there is a carrier.
pub(crate) trait Role: Send {
    /// The event that only this side's driver has.
    type Event: Send + fmt::Debug;

    /// Limits how much is logged about the tunnel.
    fn log(&self) -> &dyn Admit;
    /// Handles an event of this side.
    fn handle_event(&mut self, now: Time, event: Self::Event, tunnel: &mut Tunnel);
    /// Returns the note about the tunnel that the next process needs if this one dies.
    fn note(&self) -> Vec<u8>;
    /// Handles a change of the carrier or the tunnel.
    fn handle_change(&mut self, now: Time, change: Change<'_>, tunnel: &Tunnel);
    /// Handles a change in the number of sessions.
    fn handle_session_count(&mut self, tunnel: &Tunnel);
    /// Does the work of each second.
    fn handle_tick(&mut self, now: Time, tunnel: &mut Tunnel, sockets: &Sockets);
    /// Returns the next action for the driver. It is polled until there is none, after each of the
    /// methods above.
    fn poll_action(&mut self) -> Option<Action>;
    /// Performs the actions that are due, and returns when to call it again at the latest. A time
    /// in the past asks for another round at once.
    fn poll(&mut self, now: Time, tunnel: &mut Tunnel) -> Option<Time>;
    /// Connects the target of a session that the peer opened.
    fn offered(&mut self, id: SessionId, target: &[u8]) -> Offer;
    /// Handles a session whose local socket ended with a reset.
    fn reset(&mut self, id: SessionId, reset: &Reset);
    /// Returns whether the role is told of sessions that began or ended. The answer never changes.
    fn wants_news(&self) -> bool;
    /// Handles a session that began or ended.
    fn handle_news(&mut self, news: SessionNews);
    /// Handles a session that the operator ends. Its end is reported later.
    fn handle_kill(&mut self, id: SessionId);
    /// Handles the end of the tunnel, which this side has closed for this reason, or the peer.
    /// `stats` are the counters of the tunnel in this process.
    fn handle_end(&mut self, why: Option<Closing>, totals: &TotalCounts, stats: &Stats);
    /// Handles a session that cannot be resumed.
    fn lost(&mut self, lost: &Lost);
    /// Adds what only this side knows to the status of the tunnel.
    fn describe(
        &self,
        now: Time,
        tunnel: &Tunnel,
        carriers: &DrivenCarriers,
        status: &mut TunnelStatus,
    );
}
