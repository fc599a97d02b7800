//! Binding TCP listeners.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, SockRef, Socket};
use tokio::net::TcpListener;
use tracing::info;

use super::is_no_address;
use crate::net::congestion::Congestion;
use crate::net::socket::{Mptcp, carrier_socket};

/// Connections that the kernel queues until they are accepted.
pub(super) const BACKLOG: i32 = 1024;

/// The receive buffer for an application of this machine, in bytes before the kernel doubles it for
/// its own overhead (socket(7)): a little more than two reads. More would leave the processor's
/// cache; the data wait in the application's own socket instead.
///
/// The window must always hold two of the loopback interface's segments of 64 KiB. The kernel
/// advertises a new window only once it has doubled, and a sender does not split a segment for a
/// smaller one: it would wait for its persist timer. With small segments, the window is 0.39 of the
/// doubled buffer.
pub(super) const AHEAD: usize = 168 * 1024;

/// Limits what the kernel reads ahead from applications of this machine. Connections from elsewhere
/// need a window that grows with the path; a firewall may redirect them to a transparent listener,
/// whatever its address.
pub(super) fn hold_back(listener: TcpListener) -> io::Result<TcpListener> {
    if listener.local_addr()?.ip().is_loopback() {
        SockRef::from(&listener).set_recv_buffer_size(AHEAD)?;
    }
    Ok(listener)
}

/// Listens on TCP. An IPv6 wildcard can include IPv4.
pub(super) fn bind_tcp(address: SocketAddr, takes_v4: bool) -> io::Result<TcpListener> {
    or_on_v4(address, takes_v4, |address| {
        listen_on(carrier_socket(Domain::for_address(address), Mptcp::Off)?, address, takes_v4)
    })
}

/// Listens for carriers, on MPTCP if requested and available; TCP is accepted in any case. An IPv6
/// wildcard includes IPv4. `is_beside` allows another process of this user on the same port, if
/// that process allows it too.
pub(crate) fn bind_carriers(
    address: SocketAddr,
    mptcp: Mptcp,
    congestion: Option<&Congestion>,
    is_beside: bool,
) -> io::Result<TcpListener> {
    or_on_v4(address, true, |address| {
        let socket = carrier_socket(Domain::for_address(address), mptcp)?;
        socket.set_reuse_port(is_beside)?;
        congestion.map_or(Ok(()), |congestion| congestion.set(&socket))?;
        listen_on(socket, address, true)
    })
}

/// Listens only on IPv4 if a wildcard means both families and the system has no IPv6.
pub(super) fn or_on_v4(
    address: SocketAddr,
    takes_v4: bool,
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<TcpListener> {
    match bind(address) {
        Err(error)
            if takes_v4 && address.ip() == Ipv6Addr::UNSPECIFIED && is_no_address(&error) =>
        {
            info!("this system has no IPv6 ({error}): using 0.0.0.0 instead of [::]");
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

pub(super) fn listen_on(
    socket: Socket,
    address: SocketAddr,
    takes_v4: bool,
) -> io::Result<TcpListener> {
    if address.is_ipv6() {
        socket.set_only_v6(!takes_v4)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
