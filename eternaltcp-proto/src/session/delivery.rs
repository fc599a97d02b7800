//! The driver's view of a session: its next action, or the end with the tunnel.

use crate::id::SessionId;
use crate::reason::Reset;

/// The next action of the driver on a session's local socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// Nothing at the moment.
    Nothing,
    /// Write these bytes, and more of [`crate::Tunnel::deliverable`]. Then tell
    /// [`crate::Tunnel::delivered`] how many were taken.
    Data(&'a [u8]),
    /// Shut down the socket's sending side, then call [`crate::Tunnel::delivered_ending`].
    End,
    /// Reset the socket, once its own queue is empty or makes no progress. Then call
    /// [`crate::Tunnel::delivered_ending`].
    Reset(&'a Reset),
}

/// A session that ended with its tunnel, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The session.
    pub session: SessionId,
    /// Bytes taken from the local application that may or may not have been delivered.
    pub in_doubt: u64,
    /// Bytes received that the local application had not taken.
    pub undelivered: u64,
}
