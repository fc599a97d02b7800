//! The rate of connections, each for one byte in each direction.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::LoadOutcome;
use crate::opening::LoadOpener;

pub(crate) fn run(opener: &LoadOpener, time: Duration, at_once: usize) -> LoadOutcome {
    let start = Instant::now();
    let made = thread::scope(|scope| {
        let all: Vec<_> = (0..at_once).map(|_| scope.spawn(|| work(opener, start, time))).collect();
        all.into_iter()
            .map(|one| one.join().map_err(|_| "a client's thread ended")?)
            .sum::<LoadOutcome<u64>>()
    })?;
    println!(r#"{{"connections": {made}, "seconds": {:.6}}}"#, start.elapsed().as_secs_f64());
    Ok(())
}

fn work(opener: &LoadOpener, start: Instant, time: Duration) -> LoadOutcome<u64> {
    let mut made = 0;
    while start.elapsed() < time {
        let mut stream = opener.echo()?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
        made += 1;
    }
    Ok(made)
}
