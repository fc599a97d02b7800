//! Requests of HTTP, as plainly as they can be made.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use etcp_testkit::loopback::program::RunningProgram;
use etcp_testkit::loopback::socket::{dial, patient};

/// An answer.
#[derive(Debug)]
pub(super) struct HttpAnswer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) text: String,
}

/// Returns the answer to a request with these lines of headers, which may have its own `Host`.
pub(super) fn ask(address: SocketAddr, request: &str, headers: &str) -> HttpAnswer {
    let host = match headers.contains("Host:") {
        true => String::new(),
        false => format!("Host: {address}\r\n"),
    };
    let text = format!("{request} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
    exchange(dial(address), &text)
}

/// Returns the answer to a GET request.
pub(super) fn get(address: SocketAddr, path: &str) -> HttpAnswer {
    ask(address, &format!("GET {path}"), "")
}

/// Sends a request, and reads the answer to the end of the connection.
pub(super) fn exchange(stream: TcpStream, request: &str) -> HttpAnswer {
    let mut stream = patient(stream);
    stream.write_all(request.as_bytes()).expect("it is connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers, and ends the connection in order");
    let (head, text) = answer.split_once("\r\n\r\n").expect("it speaks HTTP");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("it has a code");
    HttpAnswer { status, head: head.to_owned(), text: text.to_owned() }
}

/// Returns the address at which a program has served metrics last.
pub(super) fn address(program: &mut RunningProgram) -> SocketAddr {
    addresses(program, 1).pop().expect("it serves metrics")
}

/// Waits until a program has served metrics at `count` addresses, and returns them.
pub(super) fn addresses(program: &mut RunningProgram, count: usize) -> Vec<SocketAddr> {
    program.wait_for_count("INFO metrics on ", count);
    let log = program.log();
    let lines = log.lines().filter_map(|line| line.split("INFO metrics on ").nth(1));
    lines.filter_map(|address| address.trim().parse().ok()).collect()
}

/// Returns the value of a sample of the metrics.
pub(super) fn sample(address: SocketAddr, name: &str) -> f64 {
    let page = get(address, "/metrics").text;
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = lines.next().unwrap_or_else(|| panic!("no {name} in\n{page}"));
    value.parse().expect("it is a number")
}
