//! What a client is told beside its tunnel: by its dials, its network, its user.

use std::time::Duration;

use eternaltcp_proto::DialId;

use super::DialError;
use super::dial::Dialed;
use super::listening::Listening;
use super::path::Path;
use crate::driver::{self, StandbyId};
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
    /// A dial for the pool has ended.
    Pooled(StandbyId, Result<Box<Dialed>, DialError>),
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
