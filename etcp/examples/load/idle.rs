//! Open sessions that send nothing.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::LoadOutcome;
use crate::opening::LoadOpener;

const AT_ONCE: usize = 8;

/// Opens up to `count` sessions and returns how many there are: the first refusal ends it.
pub(crate) fn run(opener: &LoadOpener, count: usize) -> LoadOutcome {
    let is_full = AtomicBool::new(false);
    let mut streams = thread::scope(|scope| {
        let openers: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let share = count / AT_ONCE + usize::from(number < count % AT_ONCE);
                let is_full = &is_full;
                scope.spawn(move || fill(opener, share, is_full))
            })
            .collect();
        openers.into_iter().flat_map(|one| one.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    println!(r#"{{"open": {}}}"#, streams.len());
    for line in io::stdin().lock().lines() {
        line?;
        let alive = streams.iter_mut().map(ask).filter(io::Result::is_ok).count();
        println!(r#"{{"alive": {alive}}}"#);
    }
    Ok(())
}

fn fill(opener: &LoadOpener, count: usize, is_full: &AtomicBool) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    while streams.len() < count && !is_full.load(Ordering::Relaxed) {
        let opened = opener.echo().and_then(|mut stream| ask(&mut stream).map(|()| stream));
        match opened {
            Ok(stream) => streams.push(stream),
            Err(_) => is_full.store(true, Ordering::Relaxed),
        }
    }
    streams
}

/// Exchanges a byte: the session exists from end to end.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}
