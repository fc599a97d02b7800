//! Carriers through the stdio of a program.

use std::ffi::OsString;
use std::net::SocketAddr;

use bytes::Bytes;

/// A program whose stdio carries the bytes of a carrier, such as `ssh HOST …`. It is started for
/// each carrier, and ended with it.
#[derive(Clone, Debug)]
pub struct Via {
    /// The program's destination, for messages.
    pub name: String,
    /// The program. It is started in its own process group.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The first bytes that it is sent.
    pub greeting: Bytes,
    /// The end of the line after which its output is the server's; everything before is noise, at
    /// most 1 MiB. If empty, all of its output is the server's.
    pub marker: String,
    /// An address on the program's route: when the system changes the route to it, the carrier is
    /// replaced. No packet is sent there.
    pub route_to: Option<SocketAddr>,
}
