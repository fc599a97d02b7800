//! Applications and targets: the two ends of sessions.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::LibraryPair;

/// A target that waits for sessions.
pub(crate) struct TestTarget(TcpListener);

impl TestTarget {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Returns the target's end of the next session.
    pub(crate) async fn accept(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }

    /// Echoes every session until it ends.
    pub(crate) fn echo(self) {
        tokio::spawn(async move {
            loop {
                let mut stream = self.accept().await;
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    // A session that is reset ends here like any other.
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
    }
}

/// Opens a session; returns the application's end and the target's.
pub(crate) async fn session(pair: &LibraryPair, target: &TestTarget) -> (TcpStream, TcpStream) {
    (pair.connect().await, target.accept().await)
}

/// Sends a message and checks that it comes back.
pub(crate) async fn echo(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).await.unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, message);
}

/// Closes a connection with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Returns all received bytes, and how the stream ends: in order, or with an error.
pub(crate) async fn read_all(
    stream: &mut (impl AsyncRead + Unpin),
) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all).await;
    (all, end.err().map(|error| error.kind()))
}

/// Returns whether a connection was reset, without reading from it.
pub(crate) fn is_dead(stream: &TcpStream) -> bool {
    let fd = stream.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    fds[0].revents().contains(PollFlags::ERR)
}

/// Returns bytes that differ by position, so that a wrong one is detected.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut word = 1_u32;
    let mut next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
