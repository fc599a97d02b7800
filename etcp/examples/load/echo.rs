//! Echo: the time of 64 bytes there and back, one message after the other.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::LoadOutcome;
use crate::opening::LoadOpener;
use crate::times;

pub(crate) const MESSAGE: usize = 64;
const WARM_UP: usize = 100;

/// Interval of messages in each of the other sessions.
const CALM: Duration = Duration::from_millis(50);
const SMALL_STACK: usize = 64 * 1024;

pub(crate) fn run(opener: &LoadOpener, count: usize, others: usize) -> LoadOutcome {
    let (ready, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let measured = thread::scope(|scope| {
        for number in 0..others {
            let (ready, is_over) = (&ready, &is_over);
            let builder = thread::Builder::new().stack_size(SMALL_STACK);
            builder.spawn_scoped(scope, move || {
                let outcome = chat(opener, number, others, ready, is_over);
                // A failure ends the wait for all sessions to be ready, and is reported after it.
                is_over.fetch_or(outcome.is_err(), Ordering::Relaxed);
            })?;
        }
        while ready.load(Ordering::Relaxed) < others && !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        let measured = measure(opener, count);
        if is_over.swap(true, Ordering::Relaxed) {
            return Err("one of the other sessions was lost".into());
        }
        measured
    })?;
    println!("{{{}}}", times::summary(measured));
    Ok(())
}

fn measure(opener: &LoadOpener, count: usize) -> LoadOutcome<Vec<Duration>> {
    let mut stream = opener.echo()?;
    let mut measured = Vec::with_capacity(count);
    for round in 0..WARM_UP + count {
        let start = Instant::now();
        exchange(&mut stream, round)?;
        if round >= WARM_UP {
            measured.push(start.elapsed());
        }
    }
    Ok(measured)
}

/// Runs one of the other sessions, which sends at a calm pace, each at another moment.
fn chat(
    opener: &LoadOpener,
    number: usize,
    others: usize,
    ready: &AtomicUsize,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut stream = opener.echo()?;
    exchange(&mut stream, number)?;
    ready.fetch_add(1, Ordering::Relaxed);
    let share = u32::try_from(number).map_err(io::Error::other)?;
    let all = u32::try_from(others).map_err(io::Error::other)?;
    let mut next = Instant::now() + CALM * share / all;
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        exchange(&mut stream, number)?;
        next += CALM;
    }
    Ok(())
}

/// Exchanges a message.
pub(crate) fn exchange(stream: &mut TcpStream, round: usize) -> io::Result<()> {
    let message = [round as u8; MESSAGE];
    stream.write_all(&message)?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer)?;
    if answer == message {
        return Ok(());
    }
    Err(io::Error::other("the answer is not what was sent"))
}
