//! A device at the router that every carrier passes: a load balancer that ends connections, or a
//! captive portal that answers in the server's place.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

use super::router::Router;
use super::wait::PATIENCE;
use super::world::{CARRIER_PORT, TestWorld};

/// Interval of checks for changes.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The treatment of a carrier.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// Forwards it.
    Pass,
    /// Forwards this many bytes, both directions together, and then kills it.
    Bytes(u64, MiddleboxDeath),
    /// Forwards it for this long, and then kills it.
    Time(Duration, MiddleboxDeath),
    /// Answers by itself, with these bytes, and ends it.
    Answer(&'static [u8]),
    /// Accepts it, and sends nothing.
    Mute,
}

/// The way in which a carrier ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MiddleboxDeath {
    pub kind: MiddleboxKind,
    pub learns: Learns,
}

/// The error that the ends which learn of it see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MiddleboxKind {
    End,
    Reset,
    /// An end of stream, and then a reset.
    EndThenReset,
}

/// The ends that learn that the carrier is dead. To the others it looks alive and silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    Both,
    Client,
    Server,
}

/// A middlebox that works until it is dropped.
pub struct Middlebox {
    shared: Arc<MiddleboxState>,
    thread: Option<JoinHandle<()>>,
}

struct MiddleboxState {
    server: SocketAddr,
    habit: Mutex<Habit>,
    /// The last of the carriers that must die now.
    doomed: Mutex<(usize, Option<MiddleboxDeath>)>,
    seen: AtomicUsize,
    is_over: AtomicBool,
    /// Ends of dead carriers whose owners have not learned of it.
    held: Mutex<Vec<TcpStream>>,
}

impl Middlebox {
    /// Redirects every new carrier over IPv4.
    pub fn start(world: &TestWorld, habit: Habit) -> Self {
        let shared = Arc::new(MiddleboxState {
            server: SocketAddr::new(world.server_v4(), CARRIER_PORT),
            habit: Mutex::new(habit),
            doomed: Mutex::new((0, None)),
            seen: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let namespace = &world.router.namespace;
        let any = IpAddr::from([0, 0, 0, 0]);
        let listener = namespace.run(|| TcpListener::bind((any, 0)).expect("a port is free"));
        let port = listener.local_addr().expect("it listens").port();
        let accepting = Arc::clone(&shared);
        // A thread keeps the namespace of the thread that started it.
        let thread =
            namespace.run(move || std::thread::spawn(move || accept(&listener, &accepting)));
        world.router.redirect_carriers(port);
        Self { shared, thread: Some(thread) }
    }

    /// Does this with all carriers from now on, including existing ones.
    pub fn set(&self, habit: Habit) {
        *lock(&self.shared.habit) = habit;
    }

    /// Kills every existing carrier.
    pub fn end_carriers(&self, death: MiddleboxDeath) {
        let seen = self.shared.seen.load(Ordering::Relaxed);
        *lock(&self.shared.doomed) = (seen, Some(death));
    }

    /// Returns how many carriers have come.
    pub fn seen(&self) -> usize {
        self.shared.seen.load(Ordering::Relaxed)
    }

    /// Lets new carriers bypass it. Existing ones continue through it.
    pub fn step_aside(&self, router: &Router) {
        router.redirect_no_carriers();
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives each carrier its own thread; all of them end with the middlebox.
fn accept(listener: &TcpListener, shared: &MiddleboxState) {
    std::thread::scope(|scope| {
        while !shared.is_over.load(Ordering::Relaxed) {
            if !wait_for(&[listener.as_fd()])[0] {
                continue;
            }
            let Ok((client, _)) = listener.accept() else { continue };
            let number = shared.seen.fetch_add(1, Ordering::Relaxed) + 1;
            scope.spawn(move || MiddleboxCarrier::new(client, number, shared).run());
        }
    });
}

/// Returns which sockets have something to read, after a short time at most.
fn wait_for(sockets: &[BorrowedFd<'_>]) -> Vec<bool> {
    let mut fds: Vec<_> = sockets.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    // An interrupted check counts as none.
    let _ = poll(&mut fds, Some(&LOOK));
    fds.iter().map(|fd| !fd.revents().is_empty()).collect()
}

struct MiddleboxCarrier<'a> {
    client: TcpStream,
    /// `None` if the middlebox answers itself.
    server: Option<TcpStream>,
    number: usize,
    began: Instant,
    passed: u64,
    shared: &'a MiddleboxState,
}

impl<'a> MiddleboxCarrier<'a> {
    fn new(client: TcpStream, number: usize, shared: &'a MiddleboxState) -> Self {
        let server = match *lock(&shared.habit) {
            Habit::Answer(_) | Habit::Mute => None,
            _ => TcpStream::connect(shared.server).ok(),
        };
        for end in std::iter::once(&client).chain(&server) {
            end.set_nodelay(true).expect("an option is set");
            // A proxy always reads its carrier: a write that takes longer reveals a fault.
            end.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
        }
        Self { client, server, number, began: Instant::now(), passed: 0, shared }
    }

    fn run(mut self) {
        if self.server.is_none() {
            return self.answer();
        }
        while !self.shared.is_over.load(Ordering::Relaxed) {
            if let Some(death) = self.is_due() {
                return self.die(death);
            }
            if !self.pass() {
                return;
            }
        }
    }

    fn is_due(&self) -> Option<MiddleboxDeath> {
        let (last, death) = *lock(&self.shared.doomed);
        if self.number <= last {
            return death;
        }
        match *lock(&self.shared.habit) {
            Habit::Bytes(most, death) if self.passed >= most => Some(death),
            Habit::Time(most, death) if self.began.elapsed() >= most => Some(death),
            _ => None,
        }
    }

    /// Moves the available data, up to the carrier's last byte; false at the end of a stream.
    fn pass(&mut self) -> bool {
        let most = match *lock(&self.shared.habit) {
            Habit::Bytes(most, _) => most.saturating_sub(self.passed),
            _ => u64::MAX,
        };
        let server = self.server.as_ref().expect("it passes carriers on");
        let readable = wait_for(&[self.client.as_fd(), server.as_fd()]);
        let ways = [(&self.client, server), (server, &self.client)];
        let mut buffer = [0; 16 * 1024];
        for (_, (from, to)) in readable.into_iter().zip(ways).filter(|(readable, _)| *readable) {
            let left = most.min(buffer.len() as u64) as usize;
            let Ok(count @ 1..) = (&*from).read(&mut buffer[..left]) else { return left == 0 };
            if (&*to).write_all(&buffer[..count]).is_err() {
                return false;
            }
            self.passed += count as u64;
            if matches!(*lock(&self.shared.habit), Habit::Bytes(most, _) if self.passed >= most) {
                break;
            }
        }
        true
    }

    /// Answers in the server's place.
    fn answer(mut self) {
        let _ = wait_for(&[self.client.as_fd()]);
        match *lock(&self.shared.habit) {
            // The client may be gone: then nobody needs the answer.
            Habit::Answer(bytes) => drop(self.client.write_all(bytes)),
            _ => self.hold(self.client.try_clone().expect("a descriptor")),
        }
    }

    fn die(self, death: MiddleboxDeath) {
        let Self { client, server, .. } = &self;
        let server = server.as_ref().expect("it passes carriers on");
        let (notified, others): (Vec<_>, Vec<_>) = match death.learns {
            Learns::Both => (vec![client, server], vec![]),
            Learns::Client => (vec![client], vec![server]),
            Learns::Server => (vec![server], vec![client]),
        };
        for end in notified {
            if death.kind != MiddleboxKind::Reset {
                // It may be gone already.
                let _ = end.shutdown(Shutdown::Write);
            }
            if death.kind != MiddleboxKind::End {
                set_socket_linger(end, Some(Duration::ZERO)).expect("an option is set");
            }
        }
        for end in others {
            self.hold(end.try_clone().expect("a descriptor"));
        }
    }

    fn hold(&self, end: TcpStream) {
        lock(&self.shared.held).push(end);
    }
}
