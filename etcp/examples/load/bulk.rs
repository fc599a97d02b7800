//! Bulk: how many bytes pass in a time, counted where they arrive.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::LoadOutcome;
use crate::opening::{self, LoadOpener};

pub(crate) const BUFFER: usize = 128 * 1024;

/// The size of the server's report about a stream that went up: bytes, and microseconds.
pub(crate) const VERDICT: usize = 16;

/// The direction of the bytes; up is to the server.
#[derive(Clone, Copy)]
pub(crate) enum BulkDirection {
    Up,
    Down,
    Both,
}

impl FromStr for BulkDirection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "up" => Ok(Self::Up),
            "down" => Ok(Self::Down),
            "both" => Ok(Self::Both),
            _ => Err(format!("not a way: {text}; there are up, down and both")),
        }
    }
}

/// Bytes that arrived, and the seconds from the first to the last.
#[derive(Clone, Copy, Default)]
pub(crate) struct Arrived {
    bytes: u64,
    seconds: f64,
}

impl Arrived {
    pub(crate) fn bytes_per_second(self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-6)
    }

    /// Adds two concurrent streams.
    fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, seconds: self.seconds.max(other.seconds) }
    }
}

pub(crate) fn run(
    opener: &LoadOpener,
    way: BulkDirection,
    time: Duration,
    streams: usize,
) -> LoadOutcome {
    let all = thread::scope(|scope| {
        let all: Vec<_> =
            (0..streams).map(|_| scope.spawn(move || one(opener, way, time))).collect();
        all.into_iter()
            .map(|stream| stream.join().map_err(|_| "a stream's thread ended")?)
            .collect::<LoadOutcome<Vec<_>>>()
    })?;
    let sum = all.into_iter().fold(Arrived::default(), Arrived::and);
    println!(r#"{{"bytes": {}, "seconds": {:.6}}}"#, sum.bytes, sum.seconds);
    Ok(())
}

/// Runs one stream, or one each way in the same connection.
pub(crate) fn one(opener: &LoadOpener, way: BulkDirection, time: Duration) -> LoadOutcome<Arrived> {
    match way {
        BulkDirection::Up => up(opener.bulk(opening::UP, time)?),
        BulkDirection::Down => down(opener.bulk(opening::DOWN, time)?, time),
        BulkDirection::Both => both(opener.bulk(opening::BOTH, time)?),
    }
}

/// Writes until the server has reported how much arrived in the time; data in flight are discarded.
fn up(stream: TcpStream) -> LoadOutcome<Arrived> {
    let arrived = thread::scope(|scope| {
        let writer = scope.spawn(|| pour(&stream));
        let mut verdict = [0; VERDICT];
        let answer = (&stream).read_exact(&mut verdict);
        // The writer may be blocked on a full socket.
        let _ = stream.shutdown(Shutdown::Both);
        writer.join().map_err(|_| "the writer ended")?;
        answer?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(judge(verdict))
    })?;
    opening::reset(stream)?;
    Ok(arrived)
}

fn down(mut stream: TcpStream, time: Duration) -> LoadOutcome<Arrived> {
    let mut buffer = vec![0; BUFFER];
    let first = stream.read(&mut buffer)?;
    let start = Instant::now();
    let mut bytes = first as u64;
    while start.elapsed() < time {
        match stream.read(&mut buffer)? {
            0 => return Err("the server ended the stream".into()),
            length => bytes += length as u64,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    opening::reset(stream)?;
    Ok(Arrived { bytes, seconds })
}

/// Reads and writes until the server ends its stream, when the time is over; its report is the last
/// part.
fn both(stream: TcpStream) -> LoadOutcome<Arrived> {
    let arrived = thread::scope(|scope| {
        let writer = scope.spawn(|| pour(&stream));
        let answer = drain(&stream);
        let _ = stream.shutdown(Shutdown::Both);
        writer.join().map_err(|_| "the writer ended")?;
        answer
    })?;
    opening::reset(stream)?;
    Ok(arrived)
}

/// Reads to the end; the last bytes are the report.
fn drain(mut stream: &TcpStream) -> LoadOutcome<Arrived> {
    let mut buffer = vec![0; VERDICT + BUFFER];
    let (mut bytes, mut kept) = (0, 0);
    let mut start = None;
    loop {
        let length = stream.read(&mut buffer[kept..])?;
        let start = *start.get_or_insert_with(Instant::now);
        if length == 0 {
            let verdict = buffer[..kept].try_into().map_err(|_| "no verdict of the server")?;
            let down = Arrived { bytes, seconds: start.elapsed().as_secs_f64() };
            return Ok(down.and(judge(verdict)));
        }
        let end = kept + length;
        kept = end.min(VERDICT);
        bytes += (end - kept) as u64;
        buffer.copy_within(end - kept..end, 0);
    }
}

/// Writes until the connection ends.
fn pour(mut stream: &TcpStream) {
    let buffer = vec![0x55; BUFFER];
    while stream.write_all(&buffer).is_ok() {}
}

fn judge(verdict: [u8; VERDICT]) -> Arrived {
    let verdict = u128::from_le_bytes(verdict);
    Arrived { bytes: verdict as u64, seconds: (verdict >> 64) as f64 / 1e6 }
}

/// Returns the report that the server writes: the counterpart of `judge`.
pub(crate) fn verdict(bytes: u64, time: Duration) -> io::Result<[u8; VERDICT]> {
    let time = u64::try_from(time.as_micros()).map_err(io::Error::other)?;
    Ok((u128::from(time) << 64 | u128::from(bytes)).to_le_bytes())
}
