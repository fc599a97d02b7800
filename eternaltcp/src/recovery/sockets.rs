//! The state of an inherited socket, as the kernel knows it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use eternaltcp_sys::{Inherited, cookie, read_progress};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, Type};

use crate::address::canonical_ip;

/// The progress of a connection that the next process could not know otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SocketMark {
    /// The connection was accepted, and nothing was read or written.
    Fresh,
    /// The same, on the transparent listener with this number.
    Redirected(u32),
    /// The SOCKS5 greeting was answered; the request was not read.
    Greeted,
    /// A session has the connection; its request for a target was not read.
    Asked,
    /// The request was read, and not answered.
    Unanswered,
    /// A session has the connection, and nothing precedes its stream.
    Used,
}

/// The receive timeouts that encode the marks, in seconds. Calls that do not block ignore them
/// (socket(7)), and no other program sets them.
const MARKS: [(SocketMark, u64); 4] = [
    (SocketMark::Greeted, 1_000_001),
    (SocketMark::Asked, 1_000_002),
    (SocketMark::Unanswered, 1_000_003),
    (SocketMark::Used, 1_000_004),
];

/// The timeout for the transparent listener with the number zero.
const REDIRECTED: u64 = 2_000_000;

/// The number of transparent listeners that marks can distinguish.
const MAX_REDIRECTED: u32 = 1_000_000;

impl SocketMark {
    /// Returns the number of the mark in the store; zero is [`Self::Fresh`].
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Fresh => 0,
            Self::Redirected(number) => REDIRECTED + u64::from(number % MAX_REDIRECTED),
            other => MARKS.iter().find(|(mark, _)| *mark == other).map_or(0, |(_, code)| *code),
        }
    }

    /// Returns the mark with this number. With an unknown mark, something may have been read.
    pub(crate) fn from_code(code: u64) -> Self {
        let redirected = code.checked_sub(REDIRECTED).and_then(|it| u32::try_from(it).ok());
        match redirected.filter(|number| *number < MAX_REDIRECTED) {
            Some(number) => Self::Redirected(number),
            None if code == 0 => Self::Fresh,
            None => MARKS.iter().find(|(_, it)| *it == code).map_or(Self::Used, |(mark, _)| *mark),
        }
    }

    /// Returns the mark of a socket.
    pub(crate) fn of(socket: impl AsFd) -> Self {
        let timeout = SockRef::from(&socket).read_timeout();
        timeout.map_or(Self::Used, |it| Self::from_code(it.map_or(0, |it| it.as_secs())))
    }

    /// Marks a socket. A TCP listener passes its mark on to the connections that it accepts.
    pub(crate) fn set(self, socket: impl AsFd) {
        let timeout = Some(Duration::from_secs(self.code())).filter(|it| !it.is_zero());
        // The call cannot fail for a socket and such a time.
        let _ = SockRef::from(&socket).set_read_timeout(timeout);
    }
}

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
    fn a_socket_says_how_far_it_has_come_and_what_it_accepts_inherits_that() {
        let (here, _there, listener) = tcp();
        let (one, _other) = UnixStream::pair().unwrap();
        let all = MARKS.iter().map(|(mark, _)| *mark);
        for mark in all.chain([SocketMark::Redirected(7), SocketMark::Fresh]) {
            assert_eq!(SocketMark::from_code(mark.code()), mark);
            mark.set(&here);
            mark.set(&one);
            assert_eq!((SocketMark::of(&here), SocketMark::of(&one)), (mark, mark));
        }
        SocketMark::Redirected(999_999).set(&listener);
        let listener = TcpListener::from(listener);
        let _there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        assert_eq!(SocketMark::of(&accepted), SocketMark::Redirected(999_999));
        // A timeout of another program.
        accepted.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(SocketMark::of(&accepted), SocketMark::Used);
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
