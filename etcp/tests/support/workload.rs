//! Sessions with a plan: how much goes each way and how they end, checked at both ends.
//!
//! The application tells the plan to the target in the session's first bytes, so that each end
//! knows every byte that it is to see.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::checked::Pattern;
use super::random::Random;
use super::wait::PATIENCE;

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Each end ends its stream after its last byte.
    InOrder,
    /// The application resets the session after its last byte.
    ResetByApplication,
    /// The target does.
    ResetByTarget,
}

/// What one session does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    seed: u64,
    up: u64,
    down: u64,
    ending: Ending,
}

const PLAN: usize = 25;

impl Plan {
    /// Up to `most` bytes each way; one session in ten is reset.
    pub(crate) fn random(random: &mut Random, most: u64) -> Self {
        let ending = match random.next() % 20 {
            0 => Ending::ResetByApplication,
            1 => Ending::ResetByTarget,
            _ => Ending::InOrder,
        };
        let mut length = || if random.one_in(20) { 0 } else { random.magnitude(1..most) };
        let (up, down) = (length(), length());
        Self { seed: random.next(), up, down, ending }
    }

    pub(crate) fn ending(&self) -> Ending {
        self.ending
    }

    /// Bytes that both ends have checked if the session ended in order.
    pub(crate) fn bytes(&self) -> u64 {
        self.up + self.down
    }

    fn encode(&self) -> [u8; PLAN] {
        let mut bytes = [0; PLAN];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.up.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.down.to_le_bytes());
        bytes[24] = self.ending as u8;
        bytes
    }

    fn decode(bytes: &[u8; PLAN]) -> Self {
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes);
        let ending = match bytes[24] {
            0 => Ending::InOrder,
            1 => Ending::ResetByApplication,
            2 => Ending::ResetByTarget,
            other => panic!("no plan ends with {other}: the first bytes of a session are wrong"),
        };
        let [seed, up, down] = [0, 8, 16].map(|at| number(at).expect("eight bytes"));
        Self { seed, up, down, ending }
    }

    /// The application's end, from its connection to cproxy on.
    pub(crate) fn run_application(self, proxy: SocketAddr) {
        let stream = patient(TcpStream::connect(proxy).expect("cproxy accepts"));
        (&stream).write_all(&self.encode()).expect("a new session takes its plan");
        self.run(stream, self.half(0), self.half(1), Ending::ResetByApplication);
    }

    /// The target's end. A session that the application resets may be over before its plan came.
    pub(crate) fn run_target(stream: TcpStream) {
        let stream = patient(stream);
        let mut bytes = [0; PLAN];
        match (&stream).read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("a session came without its plan: {error}"),
        }
        let plan = Self::decode(&bytes);
        plan.run(stream, plan.half(1), plan.half(0), Ending::ResetByTarget);
    }

    fn half(&self, direction: u64) -> Half {
        let length = if direction == 0 { self.up } else { self.down };
        Half { pattern: Pattern(self.seed.wrapping_mul(2).wrapping_add(direction)), length }
    }

    /// One end: `own` is the ending that is this end's to bring about.
    fn run(self, stream: TcpStream, sends: Half, receives: Half, own: Ending) {
        if self.ending == own {
            sends.send(&stream).expect("nobody else ends this session");
            set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option is set");
            return;
        }
        let is_in_order = self.ending == Ending::InOrder;
        let (sent, received) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let sent = sends.send(&stream);
                if is_in_order {
                    stream.shutdown(Shutdown::Write).expect("the stream ends in order");
                }
                sent
            });
            let received = receives.receive(&stream);
            (sender.join().expect("the sender does not panic"), received)
        });
        if is_in_order {
            sent.expect("every byte is taken");
            received.expect("the stream ends in order");
        } else {
            // Whichever sees it first takes the error away from the other.
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
}

impl Half {
    fn send(self, mut stream: &TcpStream) -> Result<(), ErrorKind> {
        let mut buffer = [0; 32 * 1024];
        let mut sent = 0;
        while sent < self.length {
            let most = (self.length - sent).min(buffer.len() as u64) as usize;
            self.pattern.fill(sent, &mut buffer[..most]);
            stream.write_all(&buffer[..most]).map_err(|error| error.kind())?;
            sent += most as u64;
        }
        Ok(())
    }

    /// Checks every byte, and at an end in order that none is missing.
    fn receive(self, mut stream: &TcpStream) -> Result<(), ErrorKind> {
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

/// A stream whose reads and writes fail rather than hang for ever.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream
}
