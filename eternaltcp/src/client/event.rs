//! Events from outside the tunnel: from dials, the network and the user.

use std::time::Duration;

use eternaltcp_proto::DialId;
use tokio::sync::oneshot;

use super::DialError;
use super::dial::Dialed;
use super::listening::RemoteListener;
use super::path::NetworkPath;
use crate::driver;
use crate::net::stream::Stream;

/// A handle of a client's driver.
pub(crate) type ClientHandle = driver::DriverHandle<ClientEvent>;

/// The id of a dial for the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PoolDialId(pub(super) u64);

/// An event for the client's role.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// The server's machine has answered a dial.
    Connected(DialId),
    /// A dial has ended.
    Dialed(DialId, Result<Box<Dialed>, DialError>),
    /// The network changed.
    Network(NetworkEvent),
    /// A dial for the pool has ended.
    Pooled(PoolDialId, Result<Box<Dialed>, DialError>),
    /// Open a session by which the server listens. The stream is its local socket.
    Listen { stream: Stream, listening: Box<RemoteListener> },
    /// The server refuses something that the client needs.
    Refused(String),
    /// The user requests a new carrier now.
    Reconnect,
    /// The user's keys may have changed.
    Reload,
    /// This process will be replaced: make a carrier for the next one, and tell when it is there.
    Leave(oneshot::Sender<()>),
    /// The process before this one has left a carrier.
    Left(Box<Dialed>),
    /// No further session is expected: the tunnel ends with the last one.
    Finish,
    /// Another tunnel of the client takes new sessions: this one ends with its last session.
    Succeeded,
}

/// The consequence of a network change for the path to the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NetworkEvent {
    /// A new carrier would take this path, unlike the previous one.
    Moved(NetworkPath),
    /// There is no path any more.
    Gone,
    /// Something else changed: the path may or may not still work.
    Changed,
    /// The machine slept for this long.
    Woke(Duration),
}
