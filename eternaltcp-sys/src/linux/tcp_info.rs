//! The kernel's view of a carrier: `TCP_INFO` (tcp(7)), for one TCP connection.

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::io::ioctl_fionread;

use super::unsent;
use crate::{MovedBytes, ReadProgress, TcpInfo};

/// `SOL_MPTCP` and `MPTCP_INFO`, with its flag for a connection that became plain TCP
/// (linux/mptcp.h).
const SOL_MPTCP: libc::c_int = 284;
const MPTCP_INFO: libc::c_int = 1;
const FALLBACK: u32 = 1;

/// Returns the kernel's figures for a carrier's connection. Returns `None` for MPTCP, whose figures
/// describe only the first subflow, which may be dead while others work. A connection that asked
/// for MPTCP and got TCP has the figures of TCP.
///
/// # Errors
/// It is not a TCP socket, or the kernel is older than Linux 2.6.
pub fn carrier_info(socket: BorrowedFd<'_>) -> io::Result<Option<TcpInfo>> {
    if is_mptcp(socket) {
        return Ok(None);
    }
    let (raw, length) = get_option::<Raw>(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    raw.read(length).map(Some)
}

/// The state of a connection that is over (`TCP_CLOSE`, linux/tcp_states.h).
const CLOSED: u8 = 7;

/// Returns how much of a connection's data was received and read. Returns `None` for MPTCP, and
/// before Linux 4.1, which does not count it.
///
/// # Errors
/// The socket is not TCP.
pub fn read_progress(socket: BorrowedFd<'_>) -> io::Result<Option<ReadProgress>> {
    if is_mptcp(socket) {
        return Ok(None);
    }
    let (raw, length) = get_option::<Raw>(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    if length < offset_of!(Raw, segments) {
        return Ok(None);
    }
    // `SIOCINQ` of tcp(7) is the same request.
    let waiting = ioctl_fionread(socket)?;
    let count = raw.bytes_received.saturating_sub(waiting);
    Ok(Some(ReadProgress { count, is_closed: raw.state[0] == CLOSED }))
}

/// Returns how many bytes this program has moved over a connection, as long as nothing reads or
/// writes at this end. Returns `None` where the kernel does not count them, as [`read_progress`]
/// does.
///
/// # Errors
/// The socket is not TCP.
pub fn moved_bytes(socket: BorrowedFd<'_>) -> io::Result<Option<MovedBytes>> {
    if is_mptcp(socket) {
        return Ok(None);
    }
    // Meanwhile the bytes that wait to be read can only grow in number, and the unacknowledged ones
    // can only shrink.
    let waiting = || Ok::<_, io::Error>((ioctl_fionread(socket)?, unsent(socket)? as u64));
    let (unread_before, unsent_before) = waiting()?;
    let (raw, length) = get_option::<Raw>(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let (unread_after, unsent_after) = waiting()?;
    if length < offset_of!(Raw, segments) {
        return Ok(None);
    }
    let read = |unread: u64| raw.bytes_received.saturating_sub(unread);
    Ok(Some(MovedBytes {
        read: read(unread_after)..=read(unread_before),
        written: raw.bytes_acked + unsent_after..=raw.bytes_acked + unsent_before,
    }))
}

/// Returns whether a connection is MPTCP and did not fall back to TCP. After a fallback the option
/// goes to TCP, which does not know it.
fn is_mptcp(socket: BorrowedFd<'_>) -> bool {
    get_option::<RawMptcp>(socket, SOL_MPTCP, MPTCP_INFO)
        .is_ok_and(|(raw, length)| length >= size_of::<RawMptcp>() && raw.flags & FALLBACK == 0)
}

/// The front of the kernel's `struct mptcp_info`.
#[repr(C)]
struct RawMptcp {
    counts: [u8; 6],
    flags: u32,
}

/// The front of the kernel's `struct tcp_info`, which only grows at its end, up to `tcpi_snd_wnd`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    state: [u8; 3],
    probes: u8,
    backoff: u8,
    options: [u8; 3],
    timeouts: [u32; 2],
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost_to_fackets: [u32; 3],
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu_and_threshold: [u32; 2],
    rtt: u32,
    rttvar: u32,
    windows_to_retransmissions: [u32; 7],
    pacing_rates: [u64; 2],
    bytes_acked: u64,
    bytes_received: u64,
    segments: [u32; 2],
    notsent_bytes: u32,
    min_rtt: u32,
    data_segments: [u32; 2],
    delivery_to_limits: [u64; 4],
    delivered: [u32; 2],
    sent_and_retransmitted: [u64; 2],
    duplicates_to_out_of_order: [u32; 3],
    snd_wnd: u32,
}

impl Raw {
    /// Converts the part that the kernel filled in: `length` bytes; the rest is zero.
    fn read(&self, length: usize) -> io::Result<TcpInfo> {
        if length < offset_of!(Self, windows_to_retransmissions) {
            let text = format!("the kernel reports too little about a connection ({length} bytes)");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let (millis, micros) = (
            |value: u32| Duration::from_millis(value.into()),
            |value: u32| Duration::from_micros(value.into()),
        );
        Ok(TcpInfo {
            round_trip: micros(self.rtt),
            variance: micros(self.rttvar),
            min_round_trip: (length >= offset_of!(Self, data_segments))
                .then_some(self.min_rtt)
                .filter(|micros| ![0, u32::MAX].contains(micros))
                .map(micros),
            arrived: (length >= offset_of!(Self, bytes_received))
                .then_some(self.bytes_acked + u64::from(self.sacked) * u64::from(self.snd_mss)),
            unacknowledged: self.unacked,
            unsent: self.notsent_bytes,
            window: (length >= size_of::<Self>()).then_some(self.snd_wnd),
            backoff: self.backoff,
            probes: self.probes,
            last_ack: millis(self.last_ack_recv),
            last_data_sent: millis(self.last_data_sent),
        })
    }
}

/// Types that getsockopt(2) may fill, wholly or in part.
///
/// # Safety
/// Every bit pattern, including all zeros, must be a value of the type.
unsafe trait Plain {}

// SAFETY: the type consists of integers and arrays of them.
unsafe impl Plain for Raw {}
// SAFETY: the type consists of integers and arrays of them.
unsafe impl Plain for RawMptcp {}

/// Returns an option's value, and how many bytes of it the kernel filled.
fn get_option<T: Plain>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<(T, usize)> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes at most `length`
    // bytes, which is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the value was zeroed, the kernel overwrote a part of it, and both are values of a
    // `Plain` type.
    Ok((unsafe { value.assume_init() }, length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Protocol, Socket, Type};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    /// Returns a connected pair of sockets, each with the requested protocol.
    fn connection(client: Protocol, server: Protocol) -> Option<(TcpStream, TcpStream)> {
        let socket = |protocol| Socket::new(Domain::IPV4, Type::STREAM, Some(protocol));
        let (client, listener) = (socket(client).ok()?, socket(server).ok()?);
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(1).unwrap();
        let listener: TcpListener = listener.into();
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        Some((client.into(), listener.accept().unwrap().0))
    }

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(offset_of!(Raw, unacked), 24);
        assert_eq!(offset_of!(Raw, last_data_sent), 44);
        assert_eq!(offset_of!(Raw, last_ack_recv), 56);
        assert_eq!(offset_of!(Raw, rtt), 68);
        assert_eq!(offset_of!(Raw, bytes_acked), 120);
        assert_eq!(offset_of!(Raw, notsent_bytes), 144);
        assert_eq!(offset_of!(Raw, min_rtt), 148);
        assert_eq!(offset_of!(Raw, snd_wnd), 228);
        assert_eq!(offset_of!(RawMptcp, flags), 8);
    }

    #[test]
    fn a_connection_that_answered_has_a_round_trip_and_owes_nothing() {
        let (mut here, mut there) = connection(Protocol::TCP, Protocol::TCP).unwrap();
        here.write_all(b"ping").unwrap();
        there.read_exact(&mut [0; 4]).unwrap();
        there.write_all(b"pong").unwrap();
        here.read_exact(&mut [0; 4]).unwrap();
        let info = carrier_info(here.as_fd()).unwrap().unwrap();
        assert!(info.round_trip > Duration::ZERO, "{info:?}");
        assert_eq!((info.unacknowledged, info.unsent, info.backoff), (0, 0, 0));
        assert!(info.last_ack < Duration::from_secs(60), "{info:?}");
        assert!(info.min_round_trip.unwrap() <= info.round_trip, "{info:?}");
        // The SYN is counted, too.
        assert_eq!(info.arrived, Some(5));
    }

    #[test]
    fn moved_bytes_are_those_that_this_end_has_read_and_written() {
        let (mut here, mut there) = connection(Protocol::TCP, Protocol::TCP).unwrap();
        here.write_all(&[1; 100]).unwrap();
        there.write_all(&[2; 70]).unwrap();
        here.read_exact(&mut [0; 30]).unwrap();
        for (socket, read, written) in [(&here, 30, 100), (&there, 0, 70)] {
            let moved = moved_bytes(socket.as_fd()).unwrap().unwrap();
            assert!(*moved.read.start() <= read && *moved.read.end() >= read, "{moved:?}");
            let most = moved.written.start().saturating_sub(2);
            assert!(most <= written && *moved.written.end() >= written, "{moved:?}");
        }
    }

    #[test]
    fn data_beyond_the_receive_buffer_count_as_unsent() {
        let (here, _there) = connection(Protocol::TCP, Protocol::TCP).unwrap();
        here.set_nonblocking(true).unwrap();
        while (&here).write(&[0; 65536]).is_ok() {}
        let info = carrier_info(here.as_fd()).unwrap().unwrap();
        assert!(info.unsent > 0, "{info:?}");
        assert!(info.window.is_some(), "{info:?}");
    }

    #[test]
    fn a_short_answer_lacks_only_what_is_new() {
        let (here, _there) = connection(Protocol::TCP, Protocol::TCP).unwrap();
        let (mut raw, length) =
            get_option::<Raw>(here.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO).unwrap();
        assert_eq!(length, size_of::<Raw>());
        raw.notsent_bytes = 0;
        assert_eq!(raw.read(104).unwrap().unsent, 0);
        assert_eq!(raw.read(71).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_socket_that_is_not_tcp_is_an_error() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(carrier_info(here.as_fd()).is_err());
    }

    #[test]
    fn mptcp_tells_nothing_unless_it_became_tcp() {
        if !super::super::mptcp_available() {
            let _ = writeln!(io::stderr(), "\n*** SKIPPED: this kernel has no MPTCP now\n");
            return;
        }
        let (both, accepted) = connection(Protocol::MPTCP, Protocol::MPTCP).unwrap();
        assert_eq!(carrier_info(both.as_fd()).unwrap(), None);
        assert_eq!(carrier_info(accepted.as_fd()).unwrap(), None);
        let (alone, accepted) = connection(Protocol::MPTCP, Protocol::TCP).unwrap();
        assert!(carrier_info(alone.as_fd()).unwrap().is_some());
        assert!(carrier_info(accepted.as_fd()).unwrap().is_some());
        let (plain, accepted) = connection(Protocol::TCP, Protocol::MPTCP).unwrap();
        assert!(carrier_info(plain.as_fd()).unwrap().is_some());
        assert!(carrier_info(accepted.as_fd()).unwrap().is_some());
    }
}
