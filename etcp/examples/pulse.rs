//! The stream on which `bench/recovery` measures pauses: one small message every few milliseconds,
//! one way, and the time when each arrived.
//!
//! ```text
//! pulse [--mptcp] send    connect|listen ADDR MS     until stdin ends, then the stream ends too
//! pulse [--mptcp] receive connect|listen ADDR FILE   until the stream ends
//! ```
//!
//! MS is the interval of messages, in milliseconds.
//!
//! A message is its number, the time it was sent, and bytes that follow from the number. The
//! receiver checks every byte, so that a lost or doubled one cannot pass, and writes 24 bytes for
//! each message to FILE: number, sent, arrived. Numbers are little-endian, times are nanoseconds
//! of `CLOCK_MONOTONIC`, which all network namespaces of a machine share. A sender that was stopped
//! or could not write goes on from then, and makes up for nothing.
//!
//! Both print `listening`, `connected`, and a last line: `sent N`, `received N`, `broken: …` if the
//! connection broke, `wrong: …` if a byte was wrong.

#![allow(clippy::print_stdout, reason = "the results go to the script that started this")]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use rustix::time::{ClockId, clock_gettime};

const LENGTH: usize = 64;

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    let is_mptcp = args.first().is_some_and(|arg| arg == "--mptcp");
    if is_mptcp {
        args.remove(0);
    }
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", how, address, period] => {
            let period = period.parse().map(Duration::from_millis);
            let period = period.map_err(|_| invalid("MS is a number"));
            period.and_then(|period| send(open(is_mptcp, how, address)?, period))
        }
        ["receive", how, address, file] => {
            File::create(file).and_then(|file| receive(open(is_mptcp, how, address)?, file))
        }
        _ => Err(invalid("usage: pulse [--mptcp] send|receive connect|listen ADDR MS|FILE")),
    };
    let (line, code) = match outcome {
        Ok(line) => (line, ExitCode::SUCCESS),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            (format!("wrong: {error}"), 1.into())
        }
        Err(error) => (format!("broken: {error}"), 2.into()),
    };
    println!("{line}");
    code
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

fn wrong(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

/// Makes the single connection.
fn open(is_mptcp: bool, how: &str, address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(|_| invalid("ADDR is IP:PORT"))?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = if is_mptcp { ipproto::MPTCP } else { ipproto::TCP };
    let socket = rustix::net::socket(family, SocketType::STREAM, Some(protocol))?;
    let stream = match how {
        "connect" => {
            rustix::net::connect(&socket, &address)?;
            TcpStream::from(socket)
        }
        "listen" => {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            rustix::net::listen(&socket, 1)?;
            println!("listening");
            let listener = TcpListener::from(socket);
            let stream = listener.accept()?.0;
            // MPTCP admits further paths of a connection only while its listener exists.
            std::mem::forget(listener);
            stream
        }
        _ => return Err(invalid("connect or listen")),
    };
    stream.set_nodelay(true)?;
    println!("connected");
    Ok(stream)
}

fn send(mut stream: TcpStream, period: Duration) -> io::Result<String> {
    let is_over = Arc::new(AtomicBool::new(false));
    let at_end = Arc::clone(&is_over);
    std::thread::spawn(move || {
        // The end and an error mean the same: the parent process is done.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        at_end.store(true, Ordering::Relaxed);
    });
    let mut due = Instant::now();
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(&message(number, now()))?;
        number += 1;
        due += period;
        match due.checked_duration_since(Instant::now()) {
            Some(wait) => std::thread::sleep(wait),
            None => due = Instant::now(),
        }
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(format!("sent {number}"))
}

fn receive(mut stream: TcpStream, mut file: File) -> io::Result<String> {
    let mut buffer = [0; LENGTH * 1024];
    let (mut filled, mut number) = (0, 0);
    loop {
        let length = stream.read(&mut buffer[filled..])?;
        let arrived = now();
        if length == 0 {
            return match filled {
                0 => Ok(format!("received {number}")),
                _ => Err(wrong(format!("the stream ends inside message {number}"))),
            };
        }
        filled += length;
        let mut records = Vec::with_capacity(filled / LENGTH * 24);
        let messages = buffer[..filled].chunks_exact(LENGTH);
        let rest = messages.remainder().len();
        for received in messages {
            let sent = u64::from_le_bytes(received[8..16].try_into().expect("eight bytes"));
            if received != message(number, sent) {
                return Err(wrong(format!("message {number} is {received:02x?}")));
            }
            for field in [number, sent, arrived] {
                records.extend_from_slice(&field.to_le_bytes());
            }
            number += 1;
        }
        file.write_all(&records)?;
        buffer.copy_within(filled - rest..filled, 0);
        filled = rest;
    }
}

/// Returns a message each of whose bytes differs from that of its neighbours in the stream.
fn message(number: u64, sent: u64) -> [u8; LENGTH] {
    let mut message: [u8; LENGTH] =
        std::array::from_fn(|index| (number.wrapping_mul(151) as u8).wrapping_add(index as u8));
    message[..8].copy_from_slice(&number.to_le_bytes());
    message[8..16].copy_from_slice(&sent.to_le_bytes());
    message
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
