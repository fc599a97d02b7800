//! The two ends of each session: what they write is known, so that each byte that arrives can be
//! compared.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use socket2::SockRef;

use super::killing::ApplicationSocket;

/// The first bytes of an application's stream say which session it is.
const HEAD: u64 = 8;

/// The maximum number of bytes of one write.
const CHUNK: u64 = 60_000;

/// The places of targets.
pub(crate) struct Targets {
    tcp: TcpListener,
    unix: UnixListener,
}

impl Targets {
    pub(crate) fn listen(folder: &Path) -> io::Result<(Self, [String; 2])> {
        let (tcp, path) = (TcpListener::bind("127.0.0.1:0")?, folder.join("target"));
        let unix = UnixListener::bind(&path)?;
        tcp.set_nonblocking(true)?;
        unix.set_nonblocking(true)?;
        let names = [tcp.local_addr()?.to_string(), format!("unix:{}", path.display())];
        Ok((Self { tcp, unix }, names))
    }

    /// Returns the next connection, if there is one.
    pub(crate) fn accept(&self) -> io::Result<Option<ApplicationSocket>> {
        let found = match self.tcp.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unix.accept().map(|(socket, _)| ApplicationSocket::Unix(socket))
            }
            other => other.map(|(socket, _)| ApplicationSocket::Tcp(socket)),
        };
        match found {
            Ok(socket) => socket.without_blocking().map(Some),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Connects as an application, to an address or a path.
pub(crate) fn connect(place: &str) -> io::Result<ApplicationSocket> {
    match place.strip_prefix("unix:") {
        None => ApplicationSocket::Tcp(TcpStream::connect(place)?).without_blocking(),
        Some(path) => ApplicationSocket::Unix(UnixStream::connect(path)?).without_blocking(),
    }
}

/// The exchange before the stream of an application that names its target: each message that it
/// sends, and the answer that it must get.
#[derive(Default)]
pub(crate) struct Prologue(VecDeque<(VecDeque<u8>, VecDeque<u8>)>);

impl Prologue {
    /// Asks for a TCP target by SOCKS5, or by SOCKS4.
    pub(crate) fn asking(target: &str, is_socks5: bool) -> Option<Self> {
        let target: std::net::SocketAddrV4 = target.parse().ok()?;
        let (ip, port) = (target.ip().octets(), target.port().to_be_bytes());
        let said: &[(Vec<u8>, &[u8])] = if is_socks5 {
            let request = [&[5, 1, 0, 1][..], &ip, &port].concat();
            &[(vec![5, 1, 0], &[5, 0]), (request, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])]
        } else {
            &[([&[4, 1][..], &port, &ip, b"me\0"].concat(), &[0, 90, 0, 0, 0, 0, 0, 0])]
        };
        let said = said.iter().map(|(say, hear)| (say.clone().into(), hear.to_vec().into()));
        Some(Self(said.collect()))
    }

    /// Sends or receives a part. Returns whether something was done. When all parts are done, the
    /// prologue is empty.
    fn go_on(&mut self, socket: &mut ApplicationSocket, size: usize) -> Result<bool, String> {
        let Some((say, hear)) = self.0.front_mut() else { return Ok(false) };
        let mut has_moved = false;
        if !say.is_empty() {
            let part: Vec<_> = say.iter().copied().take(size.clamp(1, 3)).collect();
            match socket.write(&part) {
                Ok(count) => drop(say.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("a request: {error}")),
            }
            has_moved = true;
        } else if !hear.is_empty() {
            let mut buffer = [0; 16];
            match socket.read(&mut buffer[..hear.len()]) {
                Ok(0) => return Err("a request has no answer".to_owned()),
                Ok(count) => {
                    let expected: Vec<_> = hear.drain(..count).collect();
                    if expected != buffer[..count] {
                        return Err(format!("a request is answered by {:?}", &buffer[..count]));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("a request: {error}")),
            }
            has_moved = true;
        }
        if say.is_empty() && hear.is_empty() {
            self.0.pop_front();
        }
        Ok(has_moved)
    }
}

/// The end of a direction of a stream, for its reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamEnd {
    Open,
    InOrder,
    Broken,
}

/// One end of a session.
pub(crate) struct SessionEnd {
    pub(crate) socket: Option<ApplicationSocket>,
    /// The stream that it writes; the other end writes the next or the previous one.
    stream: u64,
    /// The number of bytes that it writes in all.
    length: u64,
    /// It resets the connection when it has written all, instead of ending in order.
    resets: bool,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) is_shut: bool,
    /// It has reset its connection.
    pub(crate) has_reset: bool,
    pub(crate) end: StreamEnd,
    pub(crate) prologue: Prologue,
}

/// Returns the byte at an offset of a stream. Eight bytes in a row identify the stream and the
/// offset. The first eight are the number of the stream.
fn byte(stream: u64, at: u64) -> u8 {
    if at < HEAD {
        return (stream >> (8 * at)) as u8;
    }
    let word = (stream << 48 | at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> (8 * (at & 7))) as u8
}

impl std::fmt::Debug for SessionEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { length, resets, written, read, is_shut, has_reset, end, .. } = self;
        let is_there = self.socket.is_some();
        write!(
            f,
            "(there {is_there}, read {read} {end:?}, wrote {written} of {length}, shut {is_shut}, \
             resets {resets} {has_reset})"
        )
    }
}

impl SessionEnd {
    pub(crate) fn new(
        socket: Option<ApplicationSocket>,
        stream: u64,
        length: u64,
        resets: bool,
    ) -> Self {
        let length = length + HEAD;
        let (written, read, is_shut, has_reset) = (0, 0, false, false);
        let (end, prologue) = (StreamEnd::Open, Prologue::default());
        Self { socket, stream, length, resets, written, read, is_shut, has_reset, end, prologue }
    }

    /// Reads the head of a stream that has come to a target. Returns the number of the stream once
    /// all of it is there.
    pub(crate) fn read_head(
        socket: &mut ApplicationSocket,
        head: &mut Vec<u8>,
    ) -> io::Result<Option<u64>> {
        let mut buffer = [0; HEAD as usize];
        let missing = HEAD as usize - head.len();
        match socket.read(&mut buffer[..missing]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let whole = <[u8; HEAD as usize]>::try_from(&head[..]).ok();
        Ok(whole.map(u64::from_le_bytes))
    }

    /// Its socket is that of a target which has read the head.
    pub(crate) fn begin(&mut self, socket: ApplicationSocket) {
        (self.socket, self.read) = (Some(socket), HEAD);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.has_reset
            || self.end == StreamEnd::Broken
            || (self.is_shut && self.end == StreamEnd::InOrder)
    }

    /// Reads once, and compares. `written` is what the other end has written. Returns whether there
    /// was something.
    pub(crate) fn read(&mut self, other: &WriteProgress) -> Result<bool, String> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.end == StreamEnd::Open) else {
            return Ok(false);
        };
        if !self.prologue.0.is_empty() {
            return Ok(false);
        }
        let (mut buffer, stream) = ([0; 16 * 1024], self.stream ^ 1);
        let count = match socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) if other.has_reset => {
                self.end = StreamEnd::Broken;
                return Ok(true);
            }
            Err(error) => return Err(format!("stream {stream} at byte {}: {error}", self.read)),
        };
        for (at, found) in (self.read..).zip(&buffer[..count]) {
            if *found != byte(stream, at) || at >= other.written {
                return Err(format!("stream {stream} differs at byte {at}"));
            }
        }
        self.read += count as u64;
        if count == 0 {
            if other.has_reset && !other.is_shut {
                return Err(format!("stream {stream} ends in order, and was reset"));
            }
            if !other.is_shut || self.read != other.written {
                return Err(format!("stream {stream} ends after {} bytes", self.read));
            }
            self.end = StreamEnd::InOrder;
        }
        Ok(true)
    }

    /// Writes once, or ends. Returns whether something was done.
    pub(crate) fn write(&mut self, size: u64, other: &WriteProgress) -> Result<bool, String> {
        let is_done = self.is_shut || self.has_reset || self.end == StreamEnd::Broken;
        let Some(socket) = self.socket.as_mut().filter(|_| !is_done) else { return Ok(false) };
        if !self.prologue.0.is_empty() {
            return self.prologue.go_on(socket, size as usize);
        }
        if self.written == self.length {
            // By now the other end exists.
            if self.resets && self.read == 0 {
                return Ok(false);
            }
            if self.resets {
                SockRef::from(&socket.descriptor())
                    .set_linger(Some(Duration::ZERO))
                    .map_err(|error| error.to_string())?;
                (self.socket, self.has_reset) = (None, true);
                return Ok(true);
            }
            match socket.shut() {
                Err(_) if other.has_reset => {}
                result => result.map_err(|error| error.to_string())?,
            }
            self.is_shut = true;
            return Ok(true);
        }
        let end = self.length.min(self.written + size.min(CHUNK));
        let bytes: Vec<_> = (self.written..end).map(|at| byte(self.stream, at)).collect();
        match socket.write(&bytes) {
            Ok(count) => self.written += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            // The error is reported once: a further read would see an end.
            Err(_) if other.has_reset => (self.is_shut, self.end) = (true, StreamEnd::Broken),
            Err(error) => return Err(format!("stream {}: {error}", self.stream)),
        }
        Ok(true)
    }

    pub(crate) fn progress(&self) -> WriteProgress {
        let Self { written, is_shut, has_reset, .. } = *self;
        WriteProgress { written, is_shut, has_reset }
    }
}

/// The part of an end's state that the other end needs.
pub(crate) struct WriteProgress {
    written: u64,
    is_shut: bool,
    has_reset: bool,
}
