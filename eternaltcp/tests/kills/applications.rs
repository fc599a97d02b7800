//! The applications at both ends of each session: what they write is known, so that each byte that
//! arrives can be compared.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::killing::ApplicationSocket;

/// Half of them are TCP.
pub(crate) const SESSIONS: usize = 24;

/// The maximum number of bytes of one write.
const CHUNK: usize = 100_000;

/// The applications' ends of all connections, and the relay's.
pub(crate) struct Applications {
    all: Vec<Application>,
    relays: Vec<OwnedFd>,
    is_finishing: bool,
}

/// One end of a session.
struct Application {
    socket: ApplicationSocket,
    /// The stream that it writes. Its other end writes the next or the previous one.
    stream: u64,
    written: u64,
    read: u64,
    is_shut: bool,
    is_at_end: bool,
}

/// Connects two sockets, neither of which blocks.
fn connect(is_tcp: bool) -> io::Result<(ApplicationSocket, OwnedFd)> {
    if is_tcp {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let here = TcpStream::connect(listener.local_addr()?)?;
        let there = listener.accept()?.0;
        there.set_nonblocking(true)?;
        return Ok((ApplicationSocket::Tcp(here).without_blocking()?, there.into()));
    }
    let (here, there) = UnixStream::pair()?;
    there.set_nonblocking(true)?;
    Ok((ApplicationSocket::Unix(here).without_blocking()?, there.into()))
}

/// Returns the byte at a place of a stream. Eight of them identify stream and place.
fn byte(stream: u64, at: u64) -> u8 {
    let word = (stream << 48 | at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> (8 * (at & 7))) as u8
}

impl Applications {
    pub(crate) fn new() -> io::Result<Self> {
        let (mut all, mut relays) = (Vec::new(), Vec::new());
        for stream in 0..2 * SESSIONS as u64 {
            let (socket, relay) = connect(stream % 4 < 2)?;
            let (is_shut, is_at_end) = (false, false);
            all.push(Application { socket, stream, written: 0, read: 0, is_shut, is_at_end });
            relays.push(relay);
        }
        Ok(Self { all, relays, is_finishing: false })
    }

    /// Returns the relay's ends: that of the client, then that of the server, of each session.
    pub(crate) fn relays_ends(&self) -> Vec<OwnedFd> {
        self.relays.iter().filter_map(|it| it.try_clone().ok()).collect()
    }

    /// Returns whether something has arrived at both ends of all sessions.
    pub(crate) fn are_at_work(&self) -> bool {
        self.all.iter().all(|application| application.read > 0)
    }

    /// Lets the applications write no more.
    pub(crate) fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// Returns whether all have read the end of the other one's stream.
    pub(crate) fn are_done(&self) -> bool {
        self.all.iter().all(|application| application.is_at_end)
    }

    /// Returns how many bytes were compared.
    pub(crate) fn compared(&self) -> u64 {
        self.all.iter().map(|application| application.read).sum()
    }

    /// Reads and writes what is ready, and waits for a moment if nothing is.
    pub(crate) fn work(&mut self, mut random: impl FnMut() -> u64) -> Result<(), String> {
        let is_finishing = self.is_finishing;
        let written: Vec<_> = self.all.iter().map(|application| application.written).collect();
        let mut is_idle = true;
        for (index, application) in self.all.iter_mut().enumerate() {
            is_idle &= !application.read(written[index ^ 1])?;
        }
        for application in &mut self.all {
            // Some write little, some much, and all from time to time.
            let size = match random() % 4 {
                0 => CHUNK,
                1 => 3000,
                2 => 1 + (random() % 40) as usize,
                _ => continue,
            };
            is_idle &= !application.write(size, is_finishing)?;
        }
        if is_idle {
            let events = PollFlags::IN;
            let mut all: Vec<_> = self
                .all
                .iter()
                .map(|it| PollFd::from_borrowed_fd(it.socket.descriptor(), events))
                .collect();
            let _ = poll(&mut all, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000 }));
        }
        Ok(())
    }
}

impl Application {
    /// Reads once, and compares. `written` is what the other end has written. Returns whether there
    /// was something.
    fn read(&mut self, written: u64) -> Result<bool, String> {
        if self.is_at_end {
            return Ok(false);
        }
        let mut buffer = [0; 16 * 1024];
        let count = match self.socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(format!("stream {}: {error}", self.stream ^ 1)),
        };
        for (at, found) in (self.read..).zip(&buffer[..count]) {
            if *found != byte(self.stream ^ 1, at) || at >= written {
                return Err(format!("stream {} differs at byte {at}", self.stream ^ 1));
            }
        }
        self.read += count as u64;
        if count == 0 {
            self.is_at_end = true;
            if self.read != written {
                let stream = self.stream ^ 1;
                return Err(format!("stream {stream} ends after {} of {written}", self.read));
            }
        }
        Ok(true)
    }

    /// Writes once. Returns whether something was taken.
    fn write(&mut self, size: usize, is_finishing: bool) -> Result<bool, String> {
        if self.is_shut {
            return Ok(false);
        }
        let failed = |error: io::Error| format!("stream {}: {error}", self.stream);
        if is_finishing {
            self.socket.shut().map_err(failed)?;
            self.is_shut = true;
            return Ok(true);
        }
        let bytes: Vec<_> = (self.written..).take(size).map(|at| byte(self.stream, at)).collect();
        match self.socket.write(&bytes) {
            Ok(count) => self.written += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        Ok(true)
    }
}
