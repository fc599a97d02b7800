//! Streams whose every byte is known in advance, so that a wrong one is noticed at its position.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::netns::Namespace;
use super::wait::PATIENCE;

/// A pattern that does not repeat: byte `n` of the stream with this seed.
#[derive(Clone, Copy)]
pub struct Pattern(pub u64);

impl Pattern {
    /// Fills `buffer` with the stream's bytes from `offset` on.
    pub fn fill(self, offset: u64, buffer: &mut [u8]) {
        for (offset, byte) in (offset..).zip(buffer) {
            let word = (offset / 8).wrapping_add(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (word ^ (word >> 32)).to_le_bytes()[(offset % 8) as usize];
        }
    }

    /// Returns the stream's bytes from `offset` on.
    pub fn bytes(self, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        self.fill(offset, &mut buffer);
        buffer
    }

    /// Panics if `bytes` are not the stream's from `offset` on.
    #[track_caller]
    pub fn check(self, offset: u64, bytes: &[u8]) {
        let expected = self.bytes(offset, bytes.len());
        if let Some(at) = bytes.iter().zip(&expected).position(|(got, want)| got != want) {
            panic!("byte {} of stream {} is wrong", offset + at as u64, self.0);
        }
    }
}

/// Listens in a namespace, on a port of the kernel's choice.
pub fn listen(namespace: &Namespace, address: &str) -> TcpListener {
    namespace.run(|| TcpListener::bind(address)).expect("the namespace's ports are free")
}

/// Connects inside a namespace.
pub fn connect(namespace: &Namespace, address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().expect("an address");
    let stream = namespace.run(|| TcpStream::connect(address)).expect("cproxy accepts");
    patient(stream)
}

/// Accepts one connection.
pub fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().expect("a connection").0)
}

/// Makes reads and writes of a stream fail rather than hang for ever.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream
}

/// The rate of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The maximum number of bytes written at once; on average half of it.
    pub chunk: usize,
    /// Pause between two writes.
    pub pause: Duration,
}

impl Rate {
    /// Some MB/s, so that faults hit data in flight.
    pub const BRISK: Self = Self { chunk: 16 * 1024, pause: Duration::from_millis(2) };

    /// A rate of about 200 kB/s, for tests that run beside others.
    pub const GENTLE: Self = Self { chunk: 4 * 1024, pause: Duration::from_millis(10) };

    /// About 10 kB/s: the data of an outage of seconds fit into the queues.
    pub const SLOW: Self = Self { chunk: 512, pause: Duration::from_millis(20) };
}

/// Sends the pattern at a modest rate until told to stop, then ends the stream.
///
/// Returns how many bytes were sent.
pub fn send_until(stream: &TcpStream, pattern: Pattern, stop: &AtomicBool) -> u64 {
    send_at(stream, pattern, stop, Rate::BRISK)
}

/// Sends the pattern at another rate until told to stop, then ends the stream. Returns how many
/// bytes were sent.
pub fn send_at(stream: &TcpStream, pattern: Pattern, stop: &AtomicBool, rate: Rate) -> u64 {
    let mut buffer = vec![0; rate.chunk];
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        // An odd length, so that nothing stays aligned.
        let length = 1 + (sent as usize * 31) % buffer.len();
        pattern.fill(sent, &mut buffer[..length]);
        (&*stream).write_all(&buffer[..length]).expect("the stream goes on");
        sent += length as u64;
        // This sleep sets the rate. It waits for nothing.
        std::thread::sleep(rate.pause);
    }
    stream.shutdown(Shutdown::Write).expect("the stream ends in order");
    sent
}

/// Receives the pattern to the end of the stream, and returns its length; `progress` follows.
pub fn receive_all(stream: &TcpStream, pattern: Pattern, progress: &AtomicU64) -> u64 {
    receive_each(stream, pattern, |received| progress.store(received, Ordering::Relaxed))
}

/// Receives the pattern to the end of the stream, and returns its length. Calls `note` with the
/// number of bytes received so far whenever more have arrived.
pub fn receive_each(stream: &TcpStream, pattern: Pattern, note: impl Fn(u64)) -> u64 {
    let mut buffer = [0; 64 * 1024];
    let mut received = 0;
    loop {
        let length = (&*stream).read(&mut buffer).expect("the stream goes on");
        if length == 0 {
            return received;
        }
        pattern.check(received, &buffer[..length]);
        received += length as u64;
        note(received);
    }
}

/// Returns the bytes before the stream ends, and how it ends: in order, or with an error.
pub fn read_to_end(stream: &TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match (&*stream).read(&mut buffer) {
            Ok(0) => return (bytes, None),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => return (bytes, Some(error.kind())),
        }
    }
}
