//! The load that `bench/run` puts on a path, and the server at its other end.
//!
//! ```text
//! load serve ADDR           what every other mode talks to
//! load up    ADDR SECONDS   one bulk stream to the server
//! load down  ADDR SECONDS   one bulk stream from the server
//! load echo  ADDR COUNT     64 bytes there and back, one after the other
//! load idle  ADDR COUNT     sessions that stay open and silent until stdin ends
//! ```
//!
//! The first byte of a connection tells the server which it is. Each mode prints one line of JSON.

#![allow(clippy::print_stdout, reason = "the results go to the script that started this")]

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const UP: u8 = b'u';
const DOWN: u8 = b'd';
const ECHO: u8 = b'e';
const BULK_BUFFER: usize = 128 * 1024;
const ECHO_LENGTH: usize = 64;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address),
        ["up", address, seconds] => up(address, Duration::from_secs_f64(seconds.parse()?)),
        ["down", address, seconds] => down(address, Duration::from_secs_f64(seconds.parse()?)),
        ["echo", address, count] => echo(address, count.parse()?),
        ["idle", address, count] => idle(address, count.parse()?),
        _ => Err("usage: load serve|up|down|echo|idle ADDR [SECONDS|COUNT]".into()),
    }
}

fn open(address: &str, mode: u8) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[mode])?;
    Ok(stream)
}

/// Bulk to the server, which tells at the end how much it got: what is still on its way when the
/// time is over counts, and so does the time it takes.
fn up(address: &str, time: Duration) -> Outcome {
    let mut stream = open(address, UP)?;
    let buffer = vec![0x55; BULK_BUFFER];
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < time {
        stream.write_all(&buffer)?;
        sent += buffer.len() as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut received = [0; 8];
    stream.read_exact(&mut received)?;
    if u64::from_be_bytes(received) != sent {
        return Err("the server did not get what was sent".into());
    }
    report_bulk(sent, start.elapsed());
    Ok(())
}

fn down(address: &str, time: Duration) -> Outcome {
    let mut stream = open(address, DOWN)?;
    let mut buffer = vec![0; BULK_BUFFER];
    let start = Instant::now();
    let mut received = 0;
    while start.elapsed() < time {
        match stream.read(&mut buffer)? {
            0 => return Err("the server ended the stream".into()),
            length => received += length as u64,
        }
    }
    report_bulk(received, start.elapsed());
    Ok(())
}

fn report_bulk(bytes: u64, time: Duration) {
    println!(r#"{{"bytes": {bytes}, "seconds": {:.6}}}"#, time.as_secs_f64());
}

fn echo(address: &str, count: usize) -> Outcome {
    const WARM_UP: usize = 100;
    let mut stream = open(address, ECHO)?;
    let mut times = Vec::with_capacity(count);
    for round in 0..WARM_UP + count {
        let message = [round as u8; ECHO_LENGTH];
        let start = Instant::now();
        stream.write_all(&message)?;
        let mut answer = [0; ECHO_LENGTH];
        stream.read_exact(&mut answer)?;
        if answer != message {
            return Err("the answer is not what was sent".into());
        }
        if round >= WARM_UP {
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    let microseconds = |part: usize| {
        times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    println!(r#"{{"p50": {:.1}, "p99": {:.1}}}"#, microseconds(50), microseconds(99));
    Ok(())
}

/// Each session echoes one byte first, so that it exists from end to end.
fn idle(address: &str, count: usize) -> Outcome {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = open(address, ECHO)?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
        streams.push(stream);
    }
    println!(r#"{{"open": {}}}"#, streams.len());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn serve(address: &str) -> Outcome {
    let listener = TcpListener::bind(address)?;
    println!(r#"{{"listening": "{}"}}"#, listener.local_addr()?);
    for stream in listener.incoming() {
        // A client that goes away in the middle is no fault of the server's.
        std::thread::Builder::new().stack_size(64 * 1024).spawn(move || stream.and_then(answer))?;
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut mode = [0];
    stream.read_exact(&mut mode)?;
    match mode[0] {
        UP => {
            let mut buffer = vec![0; BULK_BUFFER];
            let mut received = 0;
            loop {
                match stream.read(&mut buffer)? {
                    0 => return stream.write_all(&u64::to_be_bytes(received)),
                    length => received += length as u64,
                }
            }
        }
        DOWN => {
            let buffer = vec![0x55; BULK_BUFFER];
            loop {
                stream.write_all(&buffer)?;
            }
        }
        _ => {
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    length => stream.write_all(&buffer[..length])?,
                }
            }
        }
    }
}
