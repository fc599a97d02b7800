//! What a client is told beside its tunnel: by its dials, its network, its user.

use std::time::Duration;

use eternaltcp_proto::DialId;

use super::DialError;
use super::dial::Dialed;
use super::keeper::Taken;
use super::path::Path;

/// Something for the client's role.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The server's machine has answered a dial.
    Connected(DialId),
    /// A dial has ended.
    Dialed(DialId, Result<Box<Dialed>, DialError>),
    /// The network changed.
    Network(NetworkEvent),
    /// Something of the spare with this number.
    Spare(u64, SpareNews),
    /// Something of the carrier with this number that is to join.
    Joining(u64, SpareNews),
    /// The server refuses what the client cannot do without.
    Refused(String),
    /// The user wants a new carrier now.
    Reconnect,
    /// The user's keys may have changed.
    Reload,
    /// No session is to come any more: the tunnel ends with the last one.
    Finish,
}

/// What became of a carrier that is to stand by.
#[derive(Debug)]
pub(crate) enum SpareNews {
    /// It stands by.
    Ready,
    /// It was asked for, and here it is.
    Taken(Box<Taken>),
    /// It is gone, or never came.
    Lost(String),
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
