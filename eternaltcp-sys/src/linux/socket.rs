//! Options and queries of sockets that no library wraps safely.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::ioctl::{Getter, ioctl};
use rustix::net::netdevice::name_to_index;
use rustix::net::{SendFlags, SocketFlags, acceptfrom_with, send};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// `SIOCOUTQ` (the same value as `TIOCOUTQ` on Linux): see tcp(7) and unix(7).
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;

/// Returns the number of bytes that were written to a socket and not yet taken by the other end's
/// kernel.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: SIOCOUTQ writes one C int through its argument, and does nothing else.
    let bytes: std::ffi::c_int = unsafe {
        let request = Getter::<SIOCOUTQ, std::ffi::c_int>::new();
        ioctl(socket, request)?
    };
    usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Binds an unconnected socket to one interface, whatever the routes prefer (`SO_BINDTODEVICE`,
/// socket(7)).
///
/// # Errors
/// `NotFound` if there is no such interface now; `PermissionDenied` for an ordinary user before
/// Linux 5.7.
pub fn bind_to_device(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes())).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => io::Error::new(io::ErrorKind::NotFound, error),
        _ => error,
    })
}

/// Returns the number of an interface, given by its name or its number.
///
/// # Errors
/// `NotFound` if there is no such interface now.
pub fn interface_index(zone: &str) -> io::Result<u32> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    // Any socket works for this query (netdevice(7)).
    let socket = UnixDatagram::unbound()?;
    name_to_index(&socket, zone).map_err(|_| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {zone}"))
    })
}

/// Lets a listener accept connections to addresses that this machine does not have, as TPROXY
/// redirects them (`IP_TRANSPARENT`, ip(7)).
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_ADMIN`.
pub fn set_transparent(listener: &Socket, domain: Domain) -> io::Result<()> {
    if domain == Domain::IPV6 {
        listener.set_ip_transparent_v6(true)
    } else {
        listener.set_ip_transparent_v4(true)
    }
}

/// Limits the rate at which the kernel sends, in bytes per second; `None` removes the limit
/// (`SO_MAX_PACING_RATE`, socket(7)).
///
/// # Errors
/// Linux is older than 3.13, or for MPTCP than 6.10.
pub fn set_pacing(socket: BorrowedFd<'_>, rate: Option<u64>) -> io::Result<()> {
    // 32 bits, as in kernels before 5.0; all ones mean no limit.
    let rate = rate.map_or(u32::MAX, |rate| u32::try_from(rate).unwrap_or(u32::MAX));
    set_option(socket, libc::SO_MAX_PACING_RATE, rate)
}

/// Gives a socket a receive buffer of at least `size` bytes (the kernel doubles the value,
/// socket(7)), and lets the kernel enlarge it, whether or not it was fixed before (`SO_BUF_LOCK`).
///
/// # Errors
/// Linux is older than 5.14; the buffer is then unchanged.
pub fn free_receive_buffer(socket: BorrowedFd<'_>, size: usize) -> io::Result<()> {
    let options = SockRef::from(&socket);
    unlock_buffers(socket)?;
    if options.recv_buffer_size()? < 2 * size {
        options.set_recv_buffer_size(size)?;
        // Setting the size has fixed it.
        unlock_buffers(socket)?;
    }
    Ok(())
}

fn unlock_buffers(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SO_BUF_LOCK, 0)
}

/// Sets an option of the socket layer with a 32-bit value.
fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads as many bytes as
    // `value` has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns whether this kernel makes MPTCP sockets now (RFC 8684): it was built with them, and
/// `net.mptcp.enabled` is 1.
pub fn mptcp_available() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).is_ok()
}

/// Makes a socket for MPTCP (RFC 8684).
///
/// # Errors
/// This kernel makes none now.
pub fn mptcp_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP))
}

/// Returns the number that the kernel gave to a socket, and gives to no other one while it runs
/// (`SO_COOKIE`, socket(7)).
///
/// # Errors
/// Linux is older than 4.6.
pub fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::net::sockopt::socket_cookie(socket)?)
}

/// Returns whether a socket was made for MPTCP, also if its connection became plain TCP.
#[must_use]
pub fn is_mptcp_socket(socket: BorrowedFd<'_>) -> bool {
    let protocol = SockRef::from(&socket).protocol();
    protocol.is_ok_and(|protocol| protocol == Some(Protocol::MPTCP))
}

/// Accepts a connection without blocking, and returns it with its peer's address, if that is of IP.
///
/// # Errors
/// The errors of accept(2).
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((socket, peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
}

/// Sends to a connection, without a signal if it is broken.
///
/// # Errors
/// The errors of send(2).
pub fn send_quietly(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// Limits how long sent bytes may stay unacknowledged; `None` takes the limit away
/// (`TCP_USER_TIMEOUT`, tcp(7)).
///
/// # Errors
/// The socket is not TCP.
pub fn limit_silence(socket: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<()> {
    SockRef::from(&socket).set_tcp_user_timeout(limit)
}

/// Limits how many unsent bytes the kernel holds before a socket counts as full
/// (`TCP_NOTSENT_LOWAT`, tcp(7)).
///
/// # Errors
/// Older kernels lack it for MPTCP.
pub fn limit_unsent(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    SockRef::from(&socket).set_tcp_notsent_lowat(bytes)
}

/// Chooses the congestion control of a socket, and of the connections that a listener accepts
/// (`TCP_CONGESTION`, tcp(7)).
///
/// # Errors
/// `NotFound` if the system has none of this name, `PermissionDenied` if this user may not choose
/// it.
pub fn set_congestion(socket: &Socket, name: &str) -> io::Result<()> {
    socket.set_tcp_congestion(name.as_bytes())
}

/// Returns the destination that an accepted connection had before netfilter redirected it
/// (`SO_ORIGINAL_DST`, linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h).
///
/// # Errors
/// `NotFound` if it was not redirected.
pub fn original_destination(socket: BorrowedFd<'_>, is_v4: bool) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(&socket);
    let address = if is_v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    Ok(address?.as_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn unread_data_of_a_unix_socket_count_as_unsent() {
        let (mut here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unsent(here.as_fd()).unwrap(), 0);
        here.write_all(b"hello").unwrap();
        assert!(unsent(here.as_fd()).unwrap() >= 5);
    }

    #[test]
    fn a_cookie_shows_whether_it_is_still_the_same_socket() {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        let first = cookie(here.as_fd()).unwrap();
        assert_eq!(cookie(here.try_clone().unwrap().as_fd()).unwrap(), first);
        assert_ne!(cookie(there.as_fd()).unwrap(), first);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_ne!(cookie(listener.as_fd()).unwrap(), first);
        assert!(cookie(tempfile::tempfile().unwrap().as_fd()).is_err());
    }

    #[test]
    fn an_interface_that_is_not_there_is_not_found() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let error = bind_to_device(&socket, "nowhere0").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        bind_to_device(&socket, "lo").unwrap();
        assert_eq!(socket.device().unwrap(), Some(b"lo".to_vec()));
    }
}
