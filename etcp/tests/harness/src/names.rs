//! Names of the server: a replacement for the system's hosts file, or a resolver of the test that
//! can be slow, silent, or give other answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::folder::TestFolder;
use super::netns::Namespace;
use super::pair::SERVER_NAME;
use super::process::Launch;

/// Interval at which the resolver checks whether to end.
const LOOK: Duration = Duration::from_millis(50);

/// The resolver's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    /// Nothing at all.
    Silence,
    /// A temporary failure (SERVFAIL).
    Failure,
    /// No such name (NXDOMAIN).
    NoSuchName,
    /// Only these addresses of [`SERVER_NAME`].
    Addresses(Vec<IpAddr>),
}

/// A resolver on the client's own loopback, as systemd-resolved and dnsmasq are.
pub struct Resolver {
    shared: Arc<DnsState>,
    thread: Option<JoinHandle<()>>,
    files: [(PathBuf, &'static str); 3],
}

struct DnsState {
    answer: Mutex<DnsAnswer>,
    asked: AtomicUsize,
    is_over: AtomicBool,
}

impl Resolver {
    /// Answers in `client` from now on.
    pub fn start(client: &Namespace, folder: &TestFolder, answer: DnsAnswer) -> Self {
        let socket = client.run(|| UdpSocket::bind("127.0.0.1:53").expect("the port is free"));
        socket.set_read_timeout(Some(LOOK)).expect("a time-out is set");
        let shared = Arc::new(DnsState {
            answer: Mutex::new(answer),
            asked: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(&socket, &serving));
        let readable = |name, text| folder.readable_file(name, text);
        let files = [
            (readable("resolv.conf", "nameserver 127.0.0.1\n"), "/etc/resolv.conf"),
            (readable("nsswitch.conf", "hosts: files dns\n"), "/etc/nsswitch.conf"),
            (readable("hosts", "127.0.0.1 localhost\n"), "/etc/hosts"),
        ];
        Self { shared, thread: Some(thread), files }
    }

    /// Makes a program query this resolver.
    pub fn serve_to(&self, launch: Launch) -> Launch {
        self.files.iter().fold(launch, |launch, (file, hidden)| launch.file(file, hidden))
    }

    /// Changes the answer from now on.
    pub fn set(&self, answer: DnsAnswer) {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Returns how many times it was queried.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &DnsState) {
    let mut buffer = [0; 512];
    while !shared.is_over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        shared.asked.fetch_add(1, Ordering::Relaxed);
        let answer = shared.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(message) = respond(&buffer[..length], &answer) {
            // The client may be gone.
            let _ = socket.send_to(&message, from);
        }
    }
}

/// Returns the response to a query of one question (RFC 1035, section 4), or none.
fn respond(query: &[u8], answer: &DnsAnswer) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let end = HEADER + query.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(HEADER..end + 4)?;
    let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let is_known = question[..question.len() - 4] == encode(SERVER_NAME);
    let (code, addresses): (u8, &[IpAddr]) = match answer {
        DnsAnswer::Silence => return None,
        DnsAnswer::Failure => (2, &[]),
        DnsAnswer::Addresses(addresses) if is_known => (0, addresses),
        DnsAnswer::NoSuchName | DnsAnswer::Addresses(_) => (3, &[]),
    };
    let data: BTreeSet<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) if kind == A => Some(address.octets().to_vec()),
            IpAddr::V6(address) if kind == AAAA => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut message = query[..2].to_vec();
    // A response, recursion desired and available; one question.
    message.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
    message.extend(question);
    for address in data {
        // The name is that of the question; its time to live is zero.
        message.extend([0xc0, HEADER as u8]);
        message.extend(&question[question.len() - 4..]);
        message.extend([0, 0, 0, 0, 0, u8::try_from(address.len()).ok()?]);
        message.extend(address);
    }
    Some(message)
}

/// Encodes a name as a sequence of labels.
fn encode(name: &str) -> Vec<u8> {
    let labels = name.split('.');
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}
