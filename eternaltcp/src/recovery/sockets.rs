//! What the kernel knows of a socket that a process before this one has left.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use eternaltcp_sys::{Inherited, cookie, read_progress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, Type};

use crate::address::canonical_ip;

/// The receive timeout of a socket that a session has had. Calls that do not block ignore it
/// (socket(7)); no other program sets it.
const USED: Duration = Duration::from_secs(86_400);

/// Marks a socket: bytes may have been read from it. A connection without the mark that no record
/// names is as if it had just been accepted.
pub(crate) fn mark_used(socket: BorrowedFd<'_>) {
    // If the system refuses, the connection is closed in order or reset before it is used again.
    let _ = SockRef::from(&socket).set_read_timeout(Some(USED));
}

/// Takes the socket with this number, if it still is the one with this cookie.
pub(super) fn take(inherited: &mut Inherited, descriptor: i32, known: u64) -> Option<OwnedFd> {
    inherited.take_if(descriptor, |socket| cookie(socket).is_ok_and(|it| it == known))
}

/// Returns whether a descriptor is a stream socket that does not listen.
pub(super) fn is_connection(socket: &OwnedFd) -> bool {
    let socket = SockRef::from(socket);
    socket.r#type().is_ok_and(|it| it == Type::STREAM)
        && socket.is_listener().is_ok_and(|is_listener| !is_listener)
}

/// The local end of a connection, or the address of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum LocalEnd {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl LocalEnd {
    /// Returns that of a socket. One without a name has none.
    pub(super) fn of(socket: &OwnedFd) -> Option<Self> {
        let address = SockRef::from(socket).local_addr().ok()?;
        let path = || Some(Self::Unix(address.as_pathname()?.to_owned()));
        address.as_socket().map(Self::Tcp).or_else(path)
    }

    /// Returns whether a listener with this address accepts connections to the other one.
    pub(super) fn accepts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(listener), Self::Tcp(other)) => {
                let (ip, other_ip) = (canonical_ip(listener.ip()), canonical_ip(other.ip()));
                listener.port() == other.port() && (ip.is_unspecified() || ip == other_ip)
            }
            (Self::Unix(listener), Self::Unix(other)) => listener == other,
            _ => false,
        }
    }
}

/// Returns whether a connection was accepted and nothing of it was read.
pub(super) fn is_unused(socket: &OwnedFd) -> bool {
    SockRef::from(socket).read_timeout().is_ok_and(|timeout| timeout.is_none())
}

/// Returns whether a socket whose error may have been told to a process that died was reset: it is
/// over, and no end of the stream has come behind the `consumed` bytes that were read.
///
/// A socket that is not TCP does not say how it ended. If its other end went away in the very
/// instant, it counts as reset.
pub(super) fn was_reset(socket: &OwnedFd, consumed: u64) -> bool {
    match read_progress(socket.as_fd()) {
        Ok(Some(progress)) => progress.is_closed && progress.count <= consumed,
        Ok(None) | Err(_) => {
            let mut fds = [PollFd::new(socket, PollFlags::empty())];
            let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
            polled.is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use eternaltcp_sys::testport::until_blocking;

    use super::*;

    fn tcp() -> (TcpStream, TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let here = listener.accept().unwrap().0;
        (here, there, listener.into())
    }

    fn reset(stream: TcpStream) {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    #[test]
    fn a_connection_belongs_to_the_listener_that_accepted_it() {
        let (here, _there, listener) = tcp();
        let here: OwnedFd = here.into();
        let (own, at) = (LocalEnd::of(&here).unwrap(), LocalEnd::of(&listener).unwrap());
        assert!(at.accepts(&own) && is_connection(&here) && !is_connection(&listener));
        let wildcard = |text: &str| LocalEnd::Tcp(text.parse().unwrap());
        let LocalEnd::Tcp(address) = own else { panic!("it is TCP") };
        assert!(wildcard(&format!("[::]:{}", address.port())).accepts(&own));
        assert!(wildcard(&format!("0.0.0.0:{}", address.port())).accepts(&own));
        assert!(!wildcard(&format!("127.0.0.2:{}", address.port())).accepts(&own));
        assert!(!wildcard("[::]:1").accepts(&own));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let there: OwnedFd = UnixStream::connect(&path).unwrap().into();
        let here: OwnedFd = listener.accept().unwrap().0.into();
        let at = LocalEnd::of(&listener.into()).unwrap();
        assert!(at.accepts(&LocalEnd::of(&here).unwrap()));
        assert_eq!(LocalEnd::of(&there), None);
    }

    #[test]
    fn a_used_socket_is_known_by_its_mark() {
        let (here, _there, _) = tcp();
        let here: OwnedFd = here.into();
        assert!(is_unused(&here));
        mark_used(here.as_fd());
        assert!(!is_unused(&here));
        let (here, _there) = UnixStream::pair().unwrap();
        let here: OwnedFd = here.into();
        mark_used(here.as_fd());
        assert!(!is_unused(&here));
    }

    #[test]
    fn a_reset_is_told_from_an_end_after_the_error_was_taken() {
        // The other end is open.
        let (here, there, _) = tcp();
        assert!(!was_reset(&here.into(), 0));
        drop(there);
        // It ends in order, with bytes that wait or without.
        for sent in [0, 3] {
            let (mut here, mut there, _) = tcp();
            there.write_all(&[7; 3]).unwrap();
            here.read_exact(&mut [0; 3]).unwrap();
            there.write_all(&[7; 3][..sent]).unwrap();
            drop(there);
            here.set_nonblocking(true).unwrap();
            until_blocking("the end", || matches!(here.peek(&mut [0; 9]), Ok(n) if n == sent));
            assert!(!was_reset(&here.into(), 3), "{sent}");
        }
        // It is reset, and the error was read by another process.
        for sent in [0, 3] {
            let (mut here, mut there, _) = tcp();
            there.write_all(&[7; 3]).unwrap();
            here.read_exact(&mut [0; 3]).unwrap();
            there.write_all(&[7; 3][..sent]).unwrap();
            reset(there);
            let here = socket2::Socket::from(here);
            until_blocking("the error", || here.take_error().unwrap().is_some());
            assert!(was_reset(&here.into(), 3), "{sent}");
        }
        // It ended in order, and was reset after that.
        let (here, there, _) = tcp();
        there.shutdown(std::net::Shutdown::Write).unwrap();
        until_blocking("the end", || here.peek(&mut [0]).unwrap() == 0);
        reset(there);
        let here = socket2::Socket::from(here);
        until_blocking("the error", || here.take_error().unwrap().is_some());
        assert!(!was_reset(&here.into(), 0));
        let (here, there) = UnixStream::pair().unwrap();
        let here: OwnedFd = here.into();
        assert!(!was_reset(&here, 0));
        drop(there);
        assert!(was_reset(&here, 0));
    }
}
