//! The state of an inherited socket, as the kernel knows it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use eternaltcp_sys::{Inherited, cookie, read_progress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, Type};

use crate::address::canonical_ip;

/// Takes the socket with this number, if it is still the one with this cookie.
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
    /// Returns the address of a socket. A socket without a name has none.
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

/// Returns whether a socket was reset. A process that died may have received the error. A
/// connection that is over without an end of the stream after the `consumed` bytes was reset.
///
/// A socket that is not TCP does not report how it ended. If its other end was closed in the same
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
    use std::time::Duration;

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
    fn a_reset_is_told_from_an_end_after_the_error_was_taken() {
        // The other end is open.
        let (here, there, _) = tcp();
        assert!(!was_reset(&here.into(), 0));
        drop(there);
        // The connection ends in order, with or without bytes that wait.
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
        // The connection is reset, and another process read the error.
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
        // The connection ended in order, and was reset after that.
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
