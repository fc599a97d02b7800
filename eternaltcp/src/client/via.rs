//! Carriers through the stdio of a program.

use std::ffi::OsString;
use std::net::SocketAddr;

use bytes::Bytes;

/// How a carrier is made whose bytes go through the stdio of a program, as
/// `ssh HOST …`. The program is started for each carrier, and ended with it.
#[derive(Clone, Debug)]
pub struct Via {
    /// What the program leads to, for messages.
    pub name: String,
    /// The program. It is started in a process group of its own.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What it is told first.
    pub greeting: Bytes,
    /// The end of the line after which its output is the server's: all before it
    /// is noise, 1 MiB at most. Empty: all of its output is the server's.
    pub marker: String,
    /// An address that is reached by the way that the program takes: when the
    /// system changes the way to it, the carrier is made anew. No packet is
    /// sent there.
    pub route_to: Option<SocketAddr>,
}
