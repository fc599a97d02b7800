//! Sessions with a plan: how much goes each way and how they end, checked at both ends.
//!
//! The application sends the plan to the target in the session's first bytes, so that each end
//! knows every byte that it will see.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::checked::Pattern;
use super::random::TestRng;
use super::wait::PATIENCE;

/// The way in which a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadEnding {
    /// Each end ends its stream after its last byte.
    InOrder,
    /// The application resets the session after its last byte.
    ResetByApplication,
    /// The target does.
    ResetByTarget,
}

/// The actions of one session.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadPlan {
    seed: u64,
    up: u64,
    down: u64,
    ending: WorkloadEnding,
    /// Milliseconds between two writes, 0 for the full rate.
    pause: u8,
}

const PLAN: usize = 26;

/// The maximum number of bytes that a slow session writes at once.
const SLOW_WRITE: usize = 3000;

impl WorkloadPlan {
    /// Returns a plan with up to `most` bytes each way; one session in ten is reset.
    pub fn random(random: &mut TestRng, most: u64) -> Self {
        let ending = match random.next() % 20 {
            0 => WorkloadEnding::ResetByApplication,
            1 => WorkloadEnding::ResetByTarget,
            _ => WorkloadEnding::InOrder,
        };
        let mut length = || if random.one_in(20) { 0 } else { random.magnitude(1..most) };
        let (up, down) = (length(), length());
        Self { seed: random.next(), up, down, ending, pause: 0 }
    }

    /// Returns a plan with up to `most` bytes each way, half of the sessions slow, so that they
    /// outlast the faults.
    pub fn random_paced(random: &mut TestRng, most: u64) -> Self {
        let pause = if random.one_in(2) { 1 + (random.next() % 20) as u8 } else { 0 };
        Self { pause, ..Self::random(random, most) }
    }

    /// Returns the same plan for an application that cannot reset its session.
    pub fn without_reset_by_application(self) -> Self {
        let ending = match self.ending {
            WorkloadEnding::ResetByApplication => WorkloadEnding::InOrder,
            other => other,
        };
        Self { ending, ..self }
    }

    /// Creates a plan with the same number of bytes each way and this ending.
    pub fn of(bytes: u64, ending: WorkloadEnding) -> Self {
        Self { seed: 1, up: bytes, down: bytes, ending, pause: 0 }
    }

    pub fn ending(&self) -> WorkloadEnding {
        self.ending
    }

    /// Returns the bytes that both ends have checked, if the session ended in order.
    pub fn bytes(&self) -> u64 {
        self.up + self.down
    }

    fn encode(&self) -> [u8; PLAN] {
        let mut bytes = [0; PLAN];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.up.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.down.to_le_bytes());
        bytes[24] = self.ending as u8;
        bytes[25] = self.pause;
        bytes
    }

    fn decode(bytes: &[u8; PLAN]) -> Self {
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes);
        let ending = match bytes[24] {
            0 => WorkloadEnding::InOrder,
            1 => WorkloadEnding::ResetByApplication,
            2 => WorkloadEnding::ResetByTarget,
            other => panic!("no plan ends with {other}: the first bytes of a session are wrong"),
        };
        let [seed, up, down] = [0, 8, 16].map(|at| number(at).expect("eight bytes"));
        Self { seed, up, down, ending, pause: bytes[25] }
    }

    /// Runs the application's end, from its connection to cproxy on.
    pub fn run_application(self, proxy: SocketAddr) {
        self.run_application_on(TcpStream::connect(proxy).expect("cproxy accepts"), PATIENCE);
    }

    /// Runs the application's end on a connection that leads to the target. No read or write may
    /// wait longer than `patience`.
    pub fn run_application_on(self, stream: TcpStream, patience: Duration) {
        let stream = patient(stream, patience);
        (&stream).write_all(&self.encode()).expect("a new session takes its plan");
        self.run(stream, self.half(0), self.half(1), WorkloadEnding::ResetByApplication);
    }

    /// Runs the application's end if it is a program with pipes, which cannot tell a reset from an
    /// end of stream. Returns whether everything arrived; the program's exit code shows how the
    /// session ended.
    pub fn run_pipes(self, mut input: impl Write + Send, mut output: impl Read) -> bool {
        let (sends, receives) = (self.half(0), self.half(1));
        std::thread::scope(|scope| {
            let encoded = self.encode();
            let sender = scope.spawn(move || {
                // A program whose session was reset reads no more.
                let _ = input.write_all(&encoded).is_ok() && sends.send(&mut input).is_ok();
            });
            let received = receives.receive(&mut output);
            sender.join().expect("the sender does not panic");
            received.is_ok()
        })
    }

    /// Runs the target's end. A session that the application resets may be over before its plan
    /// arrives.
    pub fn run_target(stream: TcpStream) {
        Self::run_target_for(stream, PATIENCE);
    }

    /// Runs the target's end. No read or write may wait longer than `patience`.
    pub fn run_target_for(stream: TcpStream, patience: Duration) {
        let stream = patient(stream, patience);
        let mut bytes = [0; PLAN];
        match (&stream).read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("a session came without its plan: {error}"),
        }
        let plan = Self::decode(&bytes);
        plan.run(stream, plan.half(1), plan.half(0), WorkloadEnding::ResetByTarget);
    }

    fn half(&self, direction: u64) -> Half {
        let length = if direction == 0 { self.up } else { self.down };
        let pattern = Pattern(self.seed.wrapping_mul(2).wrapping_add(direction));
        Half { pattern, length, pause: Duration::from_millis(self.pause.into()) }
    }

    /// Runs one end: `own` is the ending that this end must cause.
    fn run(self, stream: TcpStream, sends: Half, receives: Half, own: WorkloadEnding) {
        if self.ending == own {
            sends.send(&mut &stream).expect("nobody else ends this session");
            set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option is set");
            return;
        }
        let is_in_order = self.ending == WorkloadEnding::InOrder;
        let (sent, received) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let sent = sends.send(&mut &stream);
                if is_in_order {
                    stream.shutdown(Shutdown::Write).expect("the stream ends in order");
                }
                sent
            });
            let received = receives.receive(&mut &stream);
            (sender.join().expect("the sender does not panic"), received)
        });
        if is_in_order {
            sent.expect("every byte is taken");
            received.expect("the stream ends in order");
        } else {
            // The first one to see it consumes the error.
            let is_reset =
                [sent, received].into_iter().any(|end| end == Err(ErrorKind::ConnectionReset));
            assert!(is_reset, "{self:?} came without its reset: {sent:?}, {received:?}");
        }
    }
}

/// One direction of a session.
#[derive(Clone, Copy)]
struct Half {
    pattern: Pattern,
    length: u64,
    pause: Duration,
}

impl Half {
    fn send(self, stream: &mut impl Write) -> Result<(), ErrorKind> {
        let mut buffer = [0; 32 * 1024];
        let mut sent = 0;
        while sent < self.length {
            let most = if self.pause.is_zero() { buffer.len() } else { SLOW_WRITE };
            let most = (self.length - sent).min(most as u64) as usize;
            self.pattern.fill(sent, &mut buffer[..most]);
            stream.write_all(&buffer[..most]).map_err(|error| error.kind())?;
            sent += most as u64;
            // This sleep sets the rate. It waits for nothing.
            std::thread::sleep(self.pause);
        }
        stream.flush().map_err(|error| error.kind())
    }

    /// Checks every byte, and at an end in order that none is missing.
    fn receive(self, stream: &mut impl Read) -> Result<(), ErrorKind> {
        let mut buffer = [0; 32 * 1024];
        let mut received = 0;
        loop {
            let count = stream.read(&mut buffer).map_err(|error| error.kind())?;
            self.pattern.check(received, &buffer[..count]);
            received += count as u64;
            assert!(received <= self.length, "more came than was sent");
            if count == 0 {
                return if received == self.length {
                    Ok(())
                } else {
                    Err(ErrorKind::UnexpectedEof)
                };
            }
        }
    }
}

/// Makes reads and writes of a stream fail rather than hang for ever.
fn patient(stream: TcpStream, patience: Duration) -> TcpStream {
    stream.set_read_timeout(Some(patience)).expect("a time-out is set");
    stream.set_write_timeout(Some(patience)).expect("a time-out is set");
    stream
}
