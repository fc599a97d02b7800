//! What a client is told beside its tunnel: by its dials, its network, its user.

use std::time::Duration;

use eternaltcp_proto::{DialId, Standby};

use super::DialError;
use super::dial::Dialed;
use super::listening::Listening;
use super::path::Path;
use crate::driver::{self, CarrierIo};
use crate::net::stream::Stream;

/// The way to a client's driver.
pub(crate) type Handle = driver::Handle<ClientEvent>;

/// Something for the client's role.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// The server's machine has answered a dial.
    Connected(DialId),
    /// A dial has ended.
    Dialed(DialId, Result<Box<Dialed>, DialError>),
    /// The network changed.
    Network(NetworkEvent),
    /// Something happened to a pooled carrier.
    Pool(PooledId, PoolEvent),
    /// A session is to be opened by which the server listens; the stream is its local socket.
    Listen { stream: Stream, listening: Box<Listening> },
    /// The server refuses what the client cannot do without.
    Refused(String),
    /// The user wants a new carrier now.
    Reconnect,
    /// The user's keys may have changed.
    Reload,
    /// No session is to come any more: the tunnel ends with the last one.
    Finish,
}

/// What a change of the network means for the way to the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NetworkEvent {
    /// A new carrier would take this path, which the one before does not.
    Moved(Path),
    /// There is no path any more.
    Gone,
    /// Something else changed: the path may or may not work still.
    Changed,
    /// The machine slept for so long.
    Woke(Duration),
}

/// What a pooled carrier is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// It takes over when the attached one dies.
    Spare,
    /// It joins the attached one.
    Join,
}

/// Names a pooled carrier: events of earlier ones with the same purpose are outdated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PooledId {
    pub(super) purpose: Purpose,
    pub(super) number: u64,
}

/// What became of a pooled carrier.
#[derive(Debug)]
pub(crate) enum PoolEvent {
    /// It stands by.
    Ready,
    /// It was claimed, and here it is.
    Claimed(Box<Claimed>),
    /// It is gone, or never came.
    Lost(String),
}

/// A standby carrier that was claimed, with all that is needed to use it.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(super) carrier: CarrierIo,
    pub(super) standby: Standby,
    pub(super) path: Path,
    pub(super) server: usize,
}
