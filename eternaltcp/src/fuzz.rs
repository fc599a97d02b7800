//! Fuzz bodies, which pass arbitrary bytes to the parsers and to TLS. Each is an ordinary function,
//! which tests call with seeded input and the fuzzers in `fuzz/` with their own. It returns whether
//! the input was accepted. For tests only.

pub mod seeded;

use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};

use crate::address::{Forward, Listen, ServerAddress, Target};
use crate::control::{Reply, Request};
use crate::dynamic::{Conversation, Step};
use crate::net::origin::{Origin, proxy_header};
use crate::policy::{AuthorizedKeys, HostKey, HostSearch, ListenPermit, Permit};
use crate::target::decode_open;
use eternaltcp_tls::{
    ClientTls, Connection, Identity, PrivateFile, PublicKey, ServerTls, read_answers,
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJI+fNTS8Op9glNAAIWDRJ98X2R6P2eM1fi3TEfnVuN";

fn key() -> Option<PublicKey> {
    PublicKey::from_openssh(KEY).ok()
}

/// Opens a store of a tunnel with several sessions, with words changed as `data` says.
#[cfg(target_os = "linux")]
#[must_use]
pub fn store(data: &[u8]) -> bool {
    crate::store::damaged(data)
}

/// Parses the text of an `authorized_keys` file.
#[must_use]
pub fn authorized_keys(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let keys = AuthorizedKeys::parse(&text);
    let lines = text.lines().count();
    assert!(keys.len() <= lines && keys.warnings().len() <= lines, "more than its lines");
    !keys.is_empty()
}

/// Parses the text of a `known_hosts` file.
#[must_use]
pub fn known_hosts(data: &[u8]) -> bool {
    let (Ok(server), Some(key)) = ("host.example:6200".parse::<ServerAddress>(), key()) else {
        return false;
    };
    HostSearch::new(&server).check(data, &key).is_ok_and(|found| found != HostKey::Unknown)
}

/// Parses a permit, and every kind of address that a user writes. The written form of a parsed value
/// must parse to the same value.
#[must_use]
pub fn addresses(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let text = text.trim();
    let read = [
        is_stable::<Target>(text),
        is_stable::<Listen>(text),
        is_stable::<ServerAddress>(text),
        is_stable::<Origin>(text),
        text.parse::<Forward>().is_ok(),
        text.parse::<Permit>().is_ok(),
        text.parse::<ListenPermit>().is_ok(),
        crate::duration::parse_duration(text).is_ok(),
    ];
    read.contains(&true)
}

fn is_stable<T: FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) -> bool {
    let Ok(first) = text.parse::<T>() else { return false };
    let written = first.to_string();
    let again = written.parse::<T>().ok();
    assert_eq!(again.as_ref(), Some(&first), "{text:?} is written as {written:?}");
    true
}

/// Handles the bytes that an application sends to a port of `-D`: SOCKS and HTTP. The first byte
/// chooses how the input is split, which must not matter.
#[must_use]
pub fn dynamic(data: &[u8]) -> bool {
    let (size, rest) = data.split_first().unwrap_or((&1, &[]));
    let rest = &rest[..rest.len().min(8 * 1024)];
    let whole = converse(rest, rest.len());
    assert_eq!(whole, converse(rest, usize::from(*size)), "the pieces matter");
    matches!(whole.1, Step::Connect(_))
}

/// Returns the answer, and how the conversation ends.
fn converse(bytes: &[u8], size: usize) -> (Vec<u8>, Step) {
    let (mut talk, mut said) = (Conversation::default(), Vec::new());
    let mut last = Step::Read;
    let mut rest = bytes;
    while !rest.is_empty() && matches!(last, Step::Read) {
        let (now, later) = rest.split_at(rest.len().min(size.max(1)).min(talk.room()));
        talk.push(now);
        rest = later;
        last = loop {
            match talk.step() {
                Step::Say(words) => said.extend_from_slice(words),
                step => break step,
            }
        };
    }
    (said, last)
}

/// Parses the payload of an `open` packet, and writes the PROXY header of its origin.
#[must_use]
pub fn open_payload(data: &[u8]) -> bool {
    let opening = decode_open(data);
    if let Some(opening) = &opening {
        let header = proxy_header(opening.origin.as_ref());
        assert!(header.len() <= 16 + 36, "{} bytes", header.len());
    }
    opening.is_some()
}

/// Parses a line on the control socket, as a request and as an answer.
#[must_use]
pub fn control(data: &[u8]) -> bool {
    let request = Request::parse(data);
    if let Ok(request) = &request {
        assert_eq!(Request::parse(request.line().as_bytes()).as_ref(), Ok(request));
    }
    let reply: Result<Reply, _> = serde_json::from_slice(data);
    request.is_ok() || reply.is_ok()
}

/// Parses the text of a private-key file, and of a public key.
#[must_use]
pub fn key_file(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let public = PublicKey::from_openssh(text.trim());
    if let Ok(public) = &public {
        assert_eq!(PublicKey::from_openssh(&public.to_string()).as_ref(), Ok(public));
    }
    let private = PrivateFile::parse(Path::new("key"), data);
    let identity = private.is_ok_and(|file| file.identity().is_ok());
    identity || public.is_ok()
}

/// Parses the answers of an agent.
#[must_use]
pub fn agent(data: &[u8]) -> bool {
    key().is_some_and(|key| read_answers(&key, data))
}

/// Runs TLS with damaged and split records: of the handshake, or of the client's data after it.
#[must_use]
pub fn tls(data: &[u8]) -> bool {
    static TLS: OnceLock<Option<(ClientTls, ServerTls)>> = OnceLock::new();
    let made = TLS.get_or_init(|| {
        let [client, server] = [Identity::generate().ok()?, Identity::generate().ok()?];
        Some((ClientTls::new(&client).ok()?, ServerTls::new(&server).ok()?))
    });
    let Some((client, server)) = made else { return false };
    let (Ok(client), Ok(server)) = (Connection::client(client), Connection::server(server)) else {
        return false;
    };
    let (stage, rest) = data.split_first().unwrap_or((&0, &[]));
    damaged(TlsEnd::new(client), TlsEnd::new(server), *stage % 8, rest)
}

fn damaged(mut client: TlsEnd, mut server: TlsEnd, stage: u8, data: &[u8]) -> bool {
    let mut is_good = client.receive(&[]);
    for flight in 0..3 {
        let (from, to) =
            if flight == 1 { (&mut server, &mut client) } else { (&mut client, &mut server) };
        let mut bytes = std::mem::take(&mut from.outgoing);
        let damage = if flight == stage { data } else { &[] };
        is_good &= to.take(&mut bytes, damage);
    }
    let sent: Vec<u8> = (0..3000_u32).flat_map(u32::to_le_bytes).collect();
    for part in sent.chunks(1 + usize::from(stage) * 997) {
        if client.connection.encrypt(part, &mut client.outgoing).is_err() {
            return false;
        }
    }
    let mut bytes = std::mem::take(&mut client.outgoing);
    let damage = if stage > 2 { data } else { &[] };
    is_good &= server.take(&mut bytes, damage);
    let got = server.plaintext.concat();
    assert!(sent.starts_with(&got), "what was damaged was delivered");
    is_good && got == sent
}

/// A connection with the buffers of its caller.
struct TlsEnd {
    connection: Connection,
    incoming: BytesMut,
    outgoing: Vec<u8>,
    plaintext: Vec<Bytes>,
}

impl TlsEnd {
    fn new(connection: Connection) -> Self {
        let (incoming, outgoing, plaintext) = (BytesMut::new(), Vec::new(), Vec::new());
        Self { connection, incoming, outgoing, plaintext }
    }

    /// Processes bytes, changed and split as `damage` says: three bytes for each change, then the
    /// size of the pieces.
    fn take(&mut self, bytes: &mut Vec<u8>, damage: &[u8]) -> bool {
        let mut size = bytes.len().max(1);
        for change in damage.chunks_exact(3).take(8) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len().max(1);
            match change[2] {
                0..=99 => size = at + 1,
                100..=119 => bytes.truncate(at),
                120..=139 => drop(bytes.drain(at..bytes.len().min(at + 22))),
                140..=159 => bytes.extend_from_within(at..),
                value if !bytes.is_empty() => bytes[at] ^= value,
                _ => {}
            }
        }
        bytes.chunks(size).all(|part| self.receive(part))
    }

    fn receive(&mut self, bytes: &[u8]) -> bool {
        self.incoming.extend_from_slice(bytes);
        let result =
            self.connection.process(&mut self.incoming, &mut self.outgoing, &mut self.plaintext);
        assert!(self.outgoing.len() <= 4096, "{} bytes to say", self.outgoing.len());
        assert!(self.incoming.len() <= 64 * 1024, "{} bytes wait", self.incoming.len());
        result.is_ok()
    }
}
