//! A TCP relay between the proxies that kills every carrier after some bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

use super::random::TestRng;
use super::wait::PATIENCE;

/// Some carriers die in their handshake, in their attach or soon after it. If many did, none would
/// make progress, and the client would rightly slow down.
const EARLY: Range<u64> = 2_000..32_000;

/// The bytes, of both directions together, after which the others die.
const LATE: Range<u64> = 32_000..2_000_000;

/// Interval at which the relay checks whether it must end or be calm.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A proxy always reads its carrier: a write that takes longer reveals a fault.
const STUCK: Duration = PATIENCE;

/// The way in which a carrier dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RelayDeath {
    /// Both ends get a reset.
    Reset,
    /// Both ends get an end of stream.
    End,
    /// Nothing passes any more, and neither end is told.
    Silence,
    /// The same in one direction: 0 is from the client.
    Deaf(usize),
}

/// The number of carriers that died of each cause.
#[derive(Debug, Default)]
struct DeathCounts {
    resets: AtomicUsize,
    ends: AtomicUsize,
    silences: AtomicUsize,
}

/// A relay that runs until it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<RelayState>,
    thread: Option<JoinHandle<()>>,
}

struct RelayState {
    server: SocketAddr,
    random: Mutex<TestRng>,
    deaths: DeathCounts,
    is_calm: AtomicBool,
    is_over: AtomicBool,
}

impl Relay {
    /// Relays to `server`; no carrier dies yet.
    pub fn start(server: SocketAddr, random: TestRng) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(RelayState {
            server,
            random: Mutex::new(random),
            deaths: DeathCounts::default(),
            is_calm: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared, thread: Some(thread) }
    }

    /// Returns the address at which the client finds the relay.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets carriers die from now on, including existing ones.
    pub fn rage(&self) {
        self.shared.is_calm.store(false, Ordering::Relaxed);
    }

    /// Lets no carrier die from now on, except those that have started to.
    pub fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::Relaxed);
    }

    /// Returns how many carriers died, by kind, for the report.
    pub fn report(&self) -> String {
        let DeathCounts { resets, ends, silences } = &self.shared.deaths;
        let [resets, ends, silences] = [resets, ends, silences].map(|n| n.load(Ordering::Relaxed));
        format!("{resets} resets, {ends} ends of stream, {silences} silences")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // The thread waits in accept(2): this connection lets it check again.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Gives each carrier its own thread; all of them end with the relay.
fn accept(listener: &TcpListener, shared: &Arc<RelayState>) {
    std::thread::scope(|scope| {
        while let Ok((client, _)) = listener.accept() {
            if shared.is_over.load(Ordering::Relaxed) {
                return;
            }
            // Without a server the client must see a closed connection.
            let Ok(server) = TcpStream::connect(shared.server) else { continue };
            scope.spawn(|| RelayedCarrier::new(client, server, shared).run());
        }
    });
}

struct RelayedCarrier<'a> {
    /// The client's side and the server's.
    ends: [TcpStream; 2],
    left: u64,
    death: RelayDeath,
    shared: &'a RelayState,
}

/// The result of checking a carrier.
enum SeenEnd {
    /// This end has something to read.
    Readable(usize),
    Nothing,
}

impl<'a> RelayedCarrier<'a> {
    fn new(client: TcpStream, server: TcpStream, shared: &'a RelayState) -> Self {
        let mut random = shared.random.lock().unwrap_or_else(PoisonError::into_inner);
        let cuts = if random.one_in(8) { EARLY } else { LATE };
        let left = random.magnitude(cuts);
        let death = match random.next() % 80 {
            0 | 1 => RelayDeath::Silence,
            2 => RelayDeath::Deaf(0),
            3 => RelayDeath::Deaf(1),
            4..42 => RelayDeath::End,
            _ => RelayDeath::Reset,
        };
        for end in [&client, &server] {
            end.set_nodelay(true).expect("an option is set");
            end.set_write_timeout(Some(STUCK)).expect("a time-out is set");
        }
        Self { ends: [client, server], left, death, shared }
    }

    fn run(mut self) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let SeenEnd::Readable(from) = self.look() else { continue };
            let most = if self.is_mortal() { self.left } else { u64::MAX };
            if most == 0 {
                return self.die();
            }
            if !self.pass(from, most) {
                return;
            }
        }
    }

    fn is_mortal(&self) -> bool {
        !self.shared.is_calm.load(Ordering::Relaxed)
    }

    fn look(&self) -> SeenEnd {
        let mut fds = self.ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
        // An interrupted check counts as none.
        let _ = poll(&mut fds, Some(&LOOK));
        // The client's end does not always come first: a busy one would starve the other.
        let order = if self.left.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        order
            .into_iter()
            .find(|at| !fds[*at].revents().is_empty())
            .map_or(SeenEnd::Nothing, SeenEnd::Readable)
    }

    /// Moves at most `most` bytes; false at the end of a stream.
    fn pass(&mut self, from: usize, most: u64) -> bool {
        let mut buffer = [0; 64 * 1024];
        let most = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let Ok(count @ 1..) = (&self.ends[from]).read(&mut buffer[..most]) else { return false };
        self.left = self.left.saturating_sub(count as u64);
        match (&self.ends[1 - from]).write_all(&buffer[..count]) {
            Ok(()) => true,
            Err(error) => {
                let is_stuck = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!is_stuck, "a proxy does not read its carrier");
                false
            }
        }
    }

    fn die(mut self) {
        let deaths = &self.shared.deaths;
        let count = match self.death {
            RelayDeath::Reset => &deaths.resets,
            RelayDeath::End => &deaths.ends,
            RelayDeath::Silence | RelayDeath::Deaf(_) => &deaths.silences,
        };
        count.fetch_add(1, Ordering::Relaxed);
        match self.death {
            RelayDeath::End => self.ends.iter().for_each(|end| {
                // It may be gone already.
                let _ = end.shutdown(Shutdown::Write);
            }),
            RelayDeath::Reset => self.ends.iter().for_each(|end| {
                set_socket_linger(end, Some(Duration::ZERO)).expect("an option is set");
            }),
            RelayDeath::Silence => self.swallow([true, true]),
            RelayDeath::Deaf(from) => self.swallow([from == 0, from == 1]),
        }
    }

    /// Discards data from the named ends, until one of them gives up.
    fn swallow(&mut self, deaf: [bool; 2]) {
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let SeenEnd::Readable(from) = self.look() else { continue };
            let goes_on = if deaf[from] {
                let mut buffer = [0; 64 * 1024];
                matches!((&self.ends[from]).read(&mut buffer), Ok(1..))
            } else {
                self.pass(from, u64::MAX)
            };
            if !goes_on {
                return;
            }
            self.left = self.left.wrapping_add(1);
        }
    }
}
