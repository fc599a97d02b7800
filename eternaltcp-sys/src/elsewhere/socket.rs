//! Options and queries of sockets.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket};

use super::unsupported;
use crate::TcpInfo;

/// Returns the kernel's figures of a connection, which this system does not have.
///
/// # Errors
/// Never.
pub fn carrier_info(_: BorrowedFd<'_>) -> io::Result<Option<TcpInfo>> {
    Ok(None)
}

/// Returns the number of bytes that the other end's kernel has not taken. This system does not
/// report it.
///
/// # Errors
/// Always.
pub fn unsent(_: BorrowedFd<'_>) -> io::Result<usize> {
    Err(unsupported("count of unsent bytes"))
}

/// Binds an unconnected socket to one interface.
///
/// # Errors
/// There is no such interface now, or the system cannot do it.
pub fn bind_to_device(socket: &Socket, interface: &str) -> io::Result<()> {
    let index = std::num::NonZeroU32::new(interface_index(interface)?);
    bind_to_index(socket, index)
}

#[cfg(target_vendor = "apple")]
fn bind_to_index(socket: &Socket, index: Option<std::num::NonZeroU32>) -> io::Result<()> {
    match socket.local_addr()?.domain() {
        Domain::IPV6 => socket.bind_device_by_index_v6(index),
        _ => socket.bind_device_by_index_v4(index),
    }
}

#[cfg(not(target_vendor = "apple"))]
fn bind_to_index(_: &Socket, _: Option<std::num::NonZeroU32>) -> io::Result<()> {
    Err(unsupported("way to bind a socket to an interface"))
}

/// Returns the number of an interface, given by its name or its number.
///
/// # Errors
/// `NotFound` if there is no such interface now.
pub fn interface_index(zone: &str) -> io::Result<u32> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    let found = if_addrs::get_if_addrs()?.into_iter().find(|it| it.name == zone);
    found.and_then(|it| it.index).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {zone}"))
    })
}

/// Lets a listener accept connections to foreign addresses. This system has no TPROXY.
///
/// # Errors
/// Always.
pub fn set_transparent(_: &Socket, _: Domain) -> io::Result<()> {
    Err(unsupported("TPROXY"))
}

/// Limits the rate at which the kernel sends. This system cannot do it.
///
/// # Errors
/// Always.
pub fn set_pacing(_: BorrowedFd<'_>, _: Option<u64>) -> io::Result<()> {
    Err(unsupported("pacing of sockets"))
}

/// Lets the kernel enlarge a receive buffer whose size was set. This system cannot do it.
///
/// # Errors
/// Always.
pub fn free_receive_buffer(_: BorrowedFd<'_>, _: usize) -> io::Result<()> {
    Err(unsupported("way to unlock a receive buffer"))
}

/// Returns whether this system makes MPTCP sockets now.
#[must_use]
pub fn mptcp_available() -> bool {
    false
}

/// Returns whether a route leads to an address over one interface. This system does not report it.
///
/// # Errors
/// Always.
pub fn has_route(_: IpAddr, _: IpAddr, _: u32) -> io::Result<bool> {
    Err(unsupported("way to ask for a route"))
}

/// Returns whether a process has the file open for writing. This system does not report it.
#[must_use]
pub fn has_writer(_: &File) -> Option<bool> {
    None
}

/// Makes a socket for MPTCP, which this system does not have.
///
/// # Errors
/// Always.
pub fn mptcp_socket(_: Domain) -> io::Result<Socket> {
    Err(unsupported("MPTCP"))
}

/// Returns whether a socket was made for MPTCP.
#[must_use]
pub fn is_mptcp_socket(_: BorrowedFd<'_>) -> bool {
    false
}

/// Accepts a connection without blocking, and returns it with its peer's address, if that is an IP
/// address.
///
/// # Errors
/// The errors of accept(2).
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (socket, peer) = SockRef::from(&listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), peer.as_socket()))
}

/// Sends to a connection. The standard library ignores the signal of a broken one.
///
/// # Errors
/// The errors of send(2).
pub fn send_quietly(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    SockRef::from(&socket).send(bytes)
}

/// Limits how long sent bytes may stay unacknowledged. This system cannot do it.
///
/// # Errors
/// Always.
pub fn limit_silence(_: BorrowedFd<'_>, _: Option<Duration>) -> io::Result<()> {
    Err(unsupported("limit of silence"))
}

/// Limits how many unsent bytes the kernel holds. This system cannot do it.
///
/// # Errors
/// Always.
pub fn limit_unsent(_: BorrowedFd<'_>, _: u32) -> io::Result<()> {
    Err(unsupported("limit of unsent bytes"))
}

/// Chooses the congestion control of a socket. This system cannot do it.
///
/// # Errors
/// Always.
pub fn set_congestion(_: &Socket, _: &str) -> io::Result<()> {
    Err(unsupported("choice of congestion controls"))
}

/// Returns the destination that a connection had before it was redirected. This system does not
/// report it.
///
/// # Errors
/// Always.
pub fn original_destination(_: BorrowedFd<'_>, _: bool) -> io::Result<Option<SocketAddr>> {
    Err(unsupported("way to ask where a redirected connection went"))
}
