//! A page that is open, as far as a server sees it: the stream of its events.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use etcp_testkit::loopback::PATIENCE;
use etcp_testkit::loopback::socket::dial;
use serde_json::Value;

/// The stream of events.
#[derive(Debug)]
pub(super) struct EventReader {
    stream: BufReader<TcpStream>,
}

impl EventReader {
    /// Opens it, and reads the head of the answer.
    pub(super) fn open(address: SocketAddr) -> Self {
        let mut stream = dial(address);
        // An answer to HTTP/1.0 is not in chunks.
        stream.write_all(b"GET /events HTTP/1.0\r\n\r\n").expect("it is connected");
        let mut reader = Self { stream: BufReader::new(stream) };
        let head: Vec<_> =
            std::iter::from_fn(|| reader.line().filter(|it| !it.is_empty())).collect();
        assert!(head[0].contains(" 200 "), "{head:?}");
        assert!(head.iter().any(|it| it.eq_ignore_ascii_case("content-type: text/event-stream")));
        reader
    }

    /// Returns the next line without its end, or `None` at the end of the stream.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line).expect("it is text");
        (count > 0).then(|| line.trim_end().to_owned())
    }

    /// Returns the next event: its name, if it has one, and its data.
    pub(super) fn next(&mut self) -> Option<(Option<String>, Value)> {
        let mut name = None;
        loop {
            let line = self.line()?;
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).expect("it is JSON")));
            }
        }
    }

    /// Returns the first state for which the condition holds. Panics if there is none for long.
    #[track_caller]
    pub(super) fn wait_for(&mut self, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < 4 * PATIENCE, "waiting for {what}");
            let (_, state) =
                self.next().unwrap_or_else(|| panic!("the events ended before {what}"));
            if is_right(&state) {
                return state;
            }
        }
    }
}
