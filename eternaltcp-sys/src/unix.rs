//! Connects to Unix sockets, and never blocks for longer than the caller allows.
//!
//! connect(2) waits while the listener's queue is full. If the listener never accepts, it waits for
//! ever.

use std::io;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tokio::time::sleep;

/// A full queue is tried again after the first of these times, later at most after the last: the
/// kernel does not report when there is room.
const AGAIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(200)];

/// Connects, and tries again while the queue is full. The caller limits the time.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let [mut pause, longest] = AGAIN;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(pause).await,
            result => return result,
        }
        pause = (pause * 2).min(longest);
    }
}

/// Connects on a thread that may block, for at most `patience`.
///
/// # Errors
/// The errors of connect(2), and [`io::ErrorKind::WouldBlock`] if the queue was full all the time.
pub fn connect_blocking(path: &Path, patience: Duration) -> io::Result<BlockingStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The timeout also limits connect(2) (socket(7)).
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

/// Returns whether nothing listens on a socket whose file exists. Does not block. A full queue
/// proves a listener.
pub fn is_abandoned(path: &Path) -> bool {
    let attempt = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    matches!(attempt(), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testport::until_blocking;

    /// Returns a listener whose queue is full, and the connections that fill it.
    fn full(path: &Path) -> (Socket, Vec<Socket>) {
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
        listener.listen(1).unwrap();
        let mut waiting = Vec::new();
        loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            match socket.connect(&SockAddr::unix(path).unwrap()) {
                Ok(()) => waiting.push(socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            assert!(waiting.len() < 100, "it is never full");
        }
        (listener, waiting)
    }

    #[tokio::test]
    async fn a_full_queue_holds_up_nobody_else_and_is_entered_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.sock");
        let (listener, waiting) = full(&path);
        let (said, mut saying) = tokio::sync::mpsc::unbounded_channel();
        let place = path.clone();
        let connecting = tokio::spawn(async move {
            said.send("begun").unwrap();
            connect(&place).await
        });
        // There is one thread: it is free while the other waits.
        assert_eq!(saying.recv().await, Some("begun"));
        tokio::task::yield_now().await;
        assert!(!connecting.is_finished());
        assert!(!is_abandoned(&path));
        for _ in &waiting {
            listener.accept().unwrap();
        }
        connecting.await.unwrap().unwrap();
    }

    #[test]
    fn a_thread_that_may_block_waits_for_a_full_queue_no_longer_than_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.sock");
        let (listener, waiting) = full(&path);
        let error = connect_blocking(&path, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(waiting);
        drop(listener);
        until_blocking("the end of the listener", || is_abandoned(&path));
        let error = connect_blocking(&path, Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
