//! A checked stream each way through one session, in the background, until a test has seen enough.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::checked::{Pattern, Rate, receive_each, send_at};
use super::wait::{PATIENCE, until};

/// A time longer than the longest fault, so that no end of the session gives up by itself.
const STEADFAST: Duration = Duration::from_secs(180);

/// The number of bytes that must pass in each direction before a stream counts as continuing.
const PROGRESS: u64 = 8 * 1024;

/// Both streams of a session.
pub struct Streams {
    ways: [StreamDirection; 2],
    ends: [TcpStream; 2],
    stop: Arc<AtomicBool>,
}

/// One direction.
struct StreamDirection {
    sender: Option<JoinHandle<u64>>,
    receiver: Option<JoinHandle<u64>>,
    seen: Arc<SeenBytes>,
}

/// The bytes that one receiver has seen.
struct SeenBytes {
    bytes: AtomicU64,
    /// The time at which bytes last arrived, and the longest time without any.
    pause: Mutex<(Instant, Duration)>,
}

impl SeenBytes {
    fn note(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        pause.1 = pause.1.max(pause.0.elapsed());
        pause.0 = Instant::now();
    }
}

impl Streams {
    /// Begins both streams, at `rate` each.
    pub fn start(application: TcpStream, target: TcpStream, rate: Rate) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for end in [&application, &target] {
            end.set_read_timeout(Some(STEADFAST)).expect("a time-out is set");
            end.set_write_timeout(Some(STEADFAST)).expect("a time-out is set");
        }
        let way = |from: &TcpStream, to: &TcpStream, pattern: Pattern| {
            let [from, to] = [from, to].map(|end| end.try_clone().expect("a descriptor"));
            let seen = Arc::new(SeenBytes {
                bytes: AtomicU64::new(0),
                pause: Mutex::new((Instant::now(), Duration::ZERO)),
            });
            let (stop, notes) = (Arc::clone(&stop), Arc::clone(&seen));
            StreamDirection {
                sender: Some(std::thread::spawn(move || send_at(&from, pattern, &stop, rate))),
                receiver: Some(std::thread::spawn(move || {
                    receive_each(&to, pattern, |bytes| notes.note(bytes))
                })),
                seen,
            }
        };
        let ways = [way(&application, &target, Pattern(1)), way(&target, &application, Pattern(2))];
        Self { ways, ends: [application, target], stop }
    }

    /// Returns how much has arrived: at the target, and at the application.
    pub fn received(&self) -> [u64; 2] {
        self.ways.each_ref().map(|way| way.seen.bytes.load(Ordering::Relaxed))
    }

    /// Waits until both have moved on from here, and returns the longest pause since the last call.
    #[track_caller]
    pub fn go_on(&self, after: &str) -> Duration {
        self.reach(after, PROGRESS)
    }

    /// Waits until `bytes` more have arrived each way, and returns the longest pause since the last
    /// call.
    #[track_caller]
    pub fn reach(&self, after: &str, bytes: u64) -> Duration {
        let goals = self.received().map(|received| received + bytes);
        until(&format!("the streams to go on after {after}"), 2 * PATIENCE, || {
            assert!(!self.has_failed(), "a stream failed after {after}");
            self.received().iter().zip(&goals).all(|(received, goal)| received >= goal)
        });
        self.longest_pause()
    }

    /// Returns whether a stream has ended early: an error, or a wrong byte.
    pub fn has_failed(&self) -> bool {
        let is_over = |thread: &Option<JoinHandle<u64>>| {
            thread.as_ref().is_some_and(|thread| thread.is_finished())
        };
        self.ways.iter().any(|way| is_over(&way.sender) || is_over(&way.receiver))
    }

    fn longest_pause(&self) -> Duration {
        let mut longest = Duration::ZERO;
        for way in &self.ways {
            let mut pause = way.seen.pause.lock().unwrap_or_else(PoisonError::into_inner);
            longest = longest.max(std::mem::take(&mut pause.1));
        }
        longest
    }

    /// Ends both streams in order, and checks that all that was sent has arrived.
    #[track_caller]
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for way in &mut self.ways {
            let join = |thread: &mut Option<JoinHandle<u64>>| {
                thread.take().expect("nobody else joins it").join().expect("every byte was right")
            };
            let (sent, received) = (join(&mut way.sender), join(&mut way.receiver));
            assert_eq!(sent, received, "all that was sent has arrived");
        }
    }
}

impl Drop for Streams {
    /// Ends the streams of a failed test with their sockets, without waiting for them. They report it.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.ways.iter().any(|way| way.receiver.is_some()) {
            self.ends.iter().for_each(|end| {
                // It may be gone already.
                let _ = end.shutdown(Shutdown::Both);
            });
        }
    }
}
