//! The mark of a socket: the progress of its connection, for the next process.

use std::os::fd::AsFd;
use std::time::Duration;

use eternaltcp_proto::Cause;
use socket2::SockRef;

use crate::dynamic::Dialect;

/// The progress of a connection that the next process could not know otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SocketMark {
    /// The connection was accepted, and nothing was read or written.
    Fresh,
    /// The connection was accepted by the transparent listener with this number, and nothing was
    /// read or written.
    Redirected(u32),
    /// The SOCKS5 greeting was answered; the request was not read.
    Greeted,
    /// A session has the connection; its request for a target was not read.
    Asked,
    /// The request was read, and not answered.
    Unanswered,
    /// The request was read and is refused: an answer in this dialect is owed, with this cause.
    Refused(Dialect, Cause),
    /// A refusal was answered. The end of the connection is owed.
    Dismissed,
    /// A session has the connection, and nothing precedes its stream.
    Used,
}

/// The receive timeouts that encode the marks, in seconds. Calls that do not block ignore them
/// (socket(7)), and no other program sets them.
const MARKS: [(SocketMark, u64); 5] = [
    (SocketMark::Greeted, 1_000_001),
    (SocketMark::Asked, 1_000_002),
    (SocketMark::Unanswered, 1_000_003),
    (SocketMark::Used, 1_000_004),
    (SocketMark::Dismissed, 1_000_005),
];

/// The timeout for a refusal whose dialect and cause have the number zero. The codes of each
/// dialect follow those of the one before.
const REFUSED: u64 = 1_100_000;

/// The number of causes that marks can distinguish. A greater one counts as the last.
const CAUSES: u64 = 10_000;

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
            Self::Refused(dialect, cause) => {
                let cause = u64::from(cause.code()).min(CAUSES - 1);
                REFUSED + u64::from(dialect.code()) * CAUSES + cause
            }
            other => MARKS.iter().find(|(mark, _)| *mark == other).map_or(0, |(_, code)| *code),
        }
    }

    /// Returns the mark with this number. With an unknown mark, something may have been read.
    pub(crate) fn from_code(code: u64) -> Self {
        let redirected = code.checked_sub(REDIRECTED).and_then(|it| u32::try_from(it).ok());
        match redirected.filter(|number| *number < MAX_REDIRECTED) {
            Some(number) => Self::Redirected(number),
            None if code == 0 => Self::Fresh,
            None => {
                let named = MARKS.iter().find(|(_, it)| *it == code).map(|(mark, _)| *mark);
                named.or_else(|| refused(code)).unwrap_or(Self::Used)
            }
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

/// Returns the refusal with this number.
fn refused(code: u64) -> Option<SocketMark> {
    let number = code.checked_sub(REFUSED)?;
    let dialect = Dialect::from_code(u8::try_from(number / CAUSES).ok()?)?;
    let cause = Cause::from_code(u32::try_from(number % CAUSES).ok()?);
    Some(SocketMark::Refused(dialect, cause))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_says_how_far_it_has_come_and_what_it_accepts_inherits_that() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let here = listener.accept().unwrap().0;
        let (one, _other) = UnixStream::pair().unwrap();
        let all = MARKS.iter().map(|(mark, _)| *mark);
        let refused = [Dialect::Socks4, Dialect::Socks5, Dialect::Http].map(|dialect| {
            [Cause::Refused, Cause::TunnelOver, Cause::Other(9_999)]
                .map(|cause| SocketMark::Refused(dialect, cause))
        });
        let others = [SocketMark::Redirected(7), SocketMark::Fresh];
        for mark in all.chain(refused.into_iter().flatten()).chain(others) {
            assert_eq!(SocketMark::from_code(mark.code()), mark);
            mark.set(&here);
            mark.set(&one);
            assert_eq!((SocketMark::of(&here), SocketMark::of(&one)), (mark, mark));
        }
        SocketMark::Redirected(999_999).set(&listener);
        let _there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        assert_eq!(SocketMark::of(&accepted), SocketMark::Redirected(999_999));
        // A timeout of another program.
        accepted.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(SocketMark::of(&accepted), SocketMark::Used);
    }
}
