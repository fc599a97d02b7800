//! A target that echoes, and sessions that exchange checked data for as long as a test lasts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::program::wait;
use super::socket::{dial, listener};
use crate::checked::Pattern;

/// The size of an exchange: an odd length, so that nothing stays aligned.
const BLOCK: usize = 4093;

/// A server program that sends back what it gets, on any number of connections.
pub struct Echo {
    pub address: SocketAddr,
    /// Connections that it has accepted.
    pub accepted: Arc<AtomicU64>,
}

impl Echo {
    pub fn start() -> Self {
        let listener = listener();
        let address = listener.local_addr().expect("it listens");
        let accepted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&accepted);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let small = std::thread::Builder::new().stack_size(64 * 1024);
                let _ = small.spawn(move || echo(stream));
            }
        });
        Self { address, accepted }
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// A session with an [`Echo`] whose every byte is checked, until it is told to end.
pub struct Steady {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<ErrorKind>>>,
}

impl Steady {
    /// Starts a session, and waits until data have been exchanged.
    #[track_caller]
    pub fn start(listen: SocketAddr) -> Self {
        let stream = dial(listen);
        let rounds = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, is_stopped) = (Arc::clone(&rounds), Arc::clone(&stop));
        let thread = std::thread::spawn(move || go_round(stream, &count, &is_stopped));
        let steady = Self { rounds, stop, thread: Some(thread) };
        steady.goes_on();
        steady
    }

    /// Waits until new data have been exchanged.
    #[track_caller]
    pub fn goes_on(&self) {
        // The current exchange may be an old one.
        let wanted = self.rounds.load(Ordering::Relaxed) + 2;
        wait("checked data to go round", || {
            assert!(!self.is_over() || self.rounds.load(Ordering::Relaxed) >= wanted, "it ended");
            self.rounds.load(Ordering::Relaxed) >= wanted
        });
    }

    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the session is over, and returns its error.
    #[track_caller]
    pub fn ended(&mut self) -> Option<ErrorKind> {
        wait("the session's end", || self.is_over());
        self.thread.take().and_then(|thread| thread.join().expect("all data are right"))
    }

    /// Ends the session in order; all its data were right.
    #[track_caller]
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        assert_eq!(self.ended(), None, "the session ends in order");
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn go_round(mut stream: TcpStream, rounds: &AtomicU64, stop: &AtomicBool) -> Option<ErrorKind> {
    let pattern = Pattern(u64::from(stream.local_addr().expect("it is connected").port()));
    let mut buffer = [0; BLOCK];
    let mut offset = 0;
    while !stop.load(Ordering::Relaxed) {
        pattern.fill(offset, &mut buffer);
        let result = stream.write_all(&buffer).and_then(|()| {
            buffer.fill(0);
            stream.read_exact(&mut buffer)
        });
        if let Err(error) = result {
            return Some(error.kind());
        }
        pattern.check(offset, &buffer);
        offset += BLOCK as u64;
        rounds.fetch_add(1, Ordering::Relaxed);
        // This sleep sets the rate, that of an interactive session. It waits for nothing.
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}
