//! Sockets of carriers: MPTCP or TCP, and their options.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tracing::warn;

use eternaltcp_sys::{is_mptcp_socket, limit_unsent, mptcp_available, mptcp_socket, set_pacing};

/// Unsent bytes that the kernel may hold for a carrier. It is low, so that a keystroke does not
/// wait behind them.
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// With pacing, the kernel may hold the bytes of one second divided by this number, between
/// `MIN_UNSENT` and `NOTSENT_LOWAT`.
const PACED_UNSENT: u32 = 1000;
const MIN_UNSENT: u32 = 4 * 1024;

/// A segment that, with its headers, fits every path that IPv6 may use (RFC 8200, section 5: 1280
/// bytes).
const SMALL_SEGMENT: u32 = 1200;

/// Whether carriers use MPTCP (RFC 8684), which can use several paths at once. If the peer or the
/// system does not support it, a carrier uses TCP.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mptcp {
    /// If this system supports it.
    Auto,
    /// If this system supports it, with a warning if it does not.
    On,
    /// Never.
    #[default]
    Off,
}

impl Mptcp {
    /// Warns a user who asked for MPTCP and does not get it.
    pub(crate) fn check(self) {
        if self == Self::On && !mptcp_available() {
            warn!(
                "this system does not support MPTCP (see sysctl net.mptcp.enabled): carriers are TCP"
            );
        }
    }
}

/// Creates a socket for a carrier, or for a listener of carriers. A listener of MPTCP also accepts
/// TCP.
pub(crate) fn carrier_socket(domain: Domain, mptcp: Mptcp) -> io::Result<Socket> {
    if mptcp != Mptcp::Off
        && let Ok(socket) = mptcp_socket(domain)
    {
        return Ok(socket);
    }
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

/// Prepares a carrier's socket.
pub(crate) fn prepare_carrier(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match limit_unsent(stream.as_fd(), NOTSENT_LOWAT) {
        // Older kernels do not have this limit for MPTCP: keystrokes wait a little longer there.
        Err(_) if is_mptcp_socket(stream.as_fd()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

/// Limits the rate at which the kernel sends, in bytes per second, and lowers its unsent data on a
/// slow path; `None` removes the limit.
///
/// # Errors
/// The kernel has no such limit.
pub(crate) fn keep_pace(stream: &TcpStream, rate: Option<u64>) -> io::Result<()> {
    set_pacing(stream.as_fd(), rate)?;
    let unsent = rate.map_or(NOTSENT_LOWAT, |rate| {
        let soon = rate / u64::from(PACED_UNSENT);
        u32::try_from(soon).unwrap_or(NOTSENT_LOWAT).clamp(MIN_UNSENT, NOTSENT_LOWAT)
    });
    limit_unsent(stream.as_fd(), unsent)
}

/// Makes both directions of an unconnected socket use small segments.
pub(crate) fn use_small_segments(socket: &Socket) {
    // MPTCP may not support it: its segments are then unchanged.
    let _ = socket.set_tcp_mss(SMALL_SEGMENT);
}

/// Returns the original destination of an accepted connection before netfilter redirected it
/// (`SO_ORIGINAL_DST`, linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h).
pub(crate) fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    // The kernel searches the table of the packets' family.
    let is_v4 = local.ip().to_canonical().is_ipv4();
    let address = match eternaltcp_sys::original_destination(stream.as_fd(), is_v4) {
        Ok(address) => address.ok_or_else(not_redirected)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_redirected()),
        Err(error) => return Err(error),
    };
    // A connection that was made to this address has it as its destination.
    let is_here =
        (address.ip().to_canonical(), address.port()) == (local.ip().to_canonical(), local.port());
    if is_here { Err(not_redirected()) } else { Ok(address) }
}

/// Returns the error for a connection that was made to this listener itself.
pub(crate) fn not_redirected() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the connection was not redirected here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriers_are_mptcp_only_where_that_is_wanted_and_there() {
        let protocol = |mptcp| carrier_socket(Domain::IPV4, mptcp).unwrap().protocol().unwrap();
        let expected = if mptcp_available() { Protocol::MPTCP } else { Protocol::TCP };
        assert_eq!(protocol(Mptcp::Off), Some(Protocol::TCP));
        assert_eq!(protocol(Mptcp::Auto), Some(expected));
        assert_eq!(protocol(Mptcp::On), Some(expected));
    }
}
