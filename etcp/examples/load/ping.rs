//! Messages at a fixed pace, as if somebody types on a stalled path. Each is timed from when it was
//! due, so the longest time is the pause that a user notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::LoadOutcome;
use crate::echo::{self, MESSAGE};
use crate::opening::LoadOpener;
use crate::times;

pub(crate) fn run(opener: &LoadOpener, time: Duration, interval: Duration) -> LoadOutcome {
    let mut stream = opener.echo()?;
    echo::exchange(&mut stream, 0)?;
    println!(r#"{{"started": true}}"#);
    println!("{{{}}}", times::summary(measure(stream, time, interval)?));
    Ok(())
}

/// Sends for `time`, and waits for the last answer.
pub(crate) fn measure(
    stream: TcpStream,
    time: Duration,
    interval: Duration,
) -> LoadOutcome<Vec<Duration>> {
    let start = Instant::now();
    let count = (time.as_secs_f64() / interval.as_secs_f64()) as u32;
    thread::scope(|scope| {
        let writer = scope.spawn(|| send(&stream, start, count, interval));
        let mut measured = Vec::with_capacity(count as usize);
        let mut message = [0; MESSAGE];
        for number in 0..count {
            (&stream).read_exact(&mut message)?;
            measured.push(start.elapsed().saturating_sub(interval * number));
        }
        writer.join().map_err(|_| "the sender ended")??;
        Ok(measured)
    })
}

fn send(mut stream: &TcpStream, start: Instant, count: u32, interval: Duration) -> LoadOutcome {
    for number in 0..count {
        let due = start + interval * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(&[number as u8; MESSAGE])?;
    }
    Ok(())
}
