//! The path of one carrier through the relay, and its death.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::death::DemoDeath;
use super::record::Records;

/// The maximum number of bytes that are forwarded at once.
const CHUNK: usize = 64 * 1024;

/// A pair of connections, to cproxy and to sproxy, that forwards bytes between them until it ends
/// or is killed.
#[derive(Debug)]
pub(super) struct RelayLink {
    number: u64,
    since: Instant,
    /// Bytes forwarded to sproxy, and to cproxy.
    up: AtomicU64,
    down: AtomicU64,
    order: watch::Sender<Option<DemoDeath>>,
    is_over: AtomicBool,
    is_killed: AtomicBool,
}

/// The end of one direction of a link.
enum DirectionEnd {
    /// One of the proxies closed its connection.
    ByItself,
    /// A record passed in part, as requested.
    Cut,
}

impl DirectionEnd {
    fn death(self) -> Option<DemoDeath> {
        match self {
            Self::ByItself => None,
            Self::Cut => Some(DemoDeath::Cut),
        }
    }
}

impl RelayLink {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            since: Instant::now(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            order: watch::Sender::new(None),
            is_over: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
        }
    }

    /// Returns the number of this link. Later links have higher numbers.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the time at which the link was created.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Returns how many bytes each direction has forwarded at least.
    pub(super) fn forwarded(&self) -> u64 {
        self.up.load(Ordering::Relaxed).min(self.down.load(Ordering::Relaxed))
    }

    /// Returns whether the link still forwards.
    pub(super) fn is_open(&self) -> bool {
        !self.is_over.load(Ordering::Acquire)
    }

    /// Returns whether the link was killed, rather than ended by itself.
    pub(super) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    /// Kills the link.
    pub(super) fn kill(&self, death: DemoDeath) {
        self.order.send_replace(Some(death));
    }

    /// Forwards bytes until the link is over. Both ends learn of its death only from their sockets.
    pub(super) async fn carry(&self, cproxy: TcpStream, sproxy: TcpStream) {
        let death = self.forward(&cproxy, &sproxy).await;
        self.is_killed.store(death.is_some(), Ordering::Release);
        self.is_over.store(true, Ordering::Release);
        match death {
            // Dropping the sockets is enough.
            None | Some(DemoDeath::OneWay) => {}
            Some(DemoDeath::Reset | DemoDeath::Cut) => {
                for socket in [&cproxy, &sproxy] {
                    // If the socket is gone, its other end has reset it.
                    let _ = socket.set_zero_linger();
                }
            }
            Some(DemoDeath::Close) => {
                tokio::join!(close(&cproxy), close(&sproxy));
            }
            // The sockets stay open, so that the kernel does not report the absence of a reader.
            Some(DemoDeath::Silence) => pending().await,
        }
    }

    /// Forwards both ways. Returns how the link was killed, or `None` if it ended by itself.
    async fn forward(&self, cproxy: &TcpStream, sproxy: &TcpStream) -> Option<DemoDeath> {
        let up = self.pump(cproxy, sproxy, &self.up);
        let down = self.pump(sproxy, cproxy, &self.down);
        tokio::pin!(up, down);
        let death = tokio::select! {
            // A direction may see the request to cut before this task does.
            end = &mut up => return end.death(),
            end = &mut down => return end.death(),
            death = self.ordered() => death,
        };
        match death {
            DemoDeath::Cut => {
                tokio::select! { end = &mut up => end.death(), end = &mut down => end.death() }
            }
            DemoDeath::OneWay => {
                // Waits until sproxy closes the connection.
                down.await;
                Some(death)
            }
            DemoDeath::Reset | DemoDeath::Close | DemoDeath::Silence => Some(death),
        }
    }

    async fn ordered(&self) -> DemoDeath {
        let mut orders = self.order.subscribe();
        let order = orders.wait_for(Option::is_some).await.ok().and_then(|order| *order);
        match order {
            Some(death) => death,
            // The link owns the sender, so there is always one.
            None => pending().await,
        }
    }

    /// Forwards one way, and tracks the records for a cut.
    async fn pump(&self, from: &TcpStream, to: &TcpStream, count: &AtomicU64) -> DirectionEnd {
        let mut records = Records::default();
        let mut buffer = vec![0; CHUNK];
        loop {
            let Ok(length @ 1..) = read(from, &mut buffer).await else {
                return DirectionEnd::ByItself;
            };
            let is_cut = *self.order.borrow() == Some(DemoDeath::Cut);
            let length = if is_cut { records.cut(&buffer[..length]) } else { length };
            if write_all(to, &buffer[..length]).await.is_err() {
                return DirectionEnd::ByItself;
            }
            if is_cut {
                return DirectionEnd::Cut;
            }
            records.pass(&buffer[..length]);
            count.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}

/// Ends a connection in order: both directions see an end of stream. Closing it with unread bytes
/// would cause a reset.
async fn close(socket: &TcpStream) {
    // If the socket is gone, it has ended.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
    let mut sink = vec![0; CHUNK];
    while let Ok(1..) = read(socket, &mut sink).await {}
}

/// Reads once; 0 is the end of stream.
async fn read(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match socket.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
