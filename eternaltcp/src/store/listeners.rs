//! Records of the listening sockets of a program, with their purposes and descriptors.
//!
//! A record is written once, when the socket listens, and cleared before the socket is closed.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use eternaltcp_proto::{SessionId, TunnelId};

use super::entries::Entries;
use super::fields::{Decoded, MalformedRecord, RecordReader, RecordWriter};
use super::layout::TableKind;
use super::memory::{Memory, StoreMemory};
use super::note::checksum;
use crate::address::Listen;

/// The words of a record. The first one has the descriptor and the purpose.
const COOKIE: usize = 8;
const CHECKSUM: usize = 16;
const LENGTH: usize = 24;
const BODY: usize = 32;

/// The maximum length of a body in bytes. A listener with a longer one is not kept.
const MAX_BODY: usize = 512 - BODY;

/// Numbers the listeners of this process, so that the sockets of each one can be recognized.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The purpose of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListenerPurpose {
    /// Accepts connections of applications on this machine.
    Applications,
    /// Accepts connections that a firewall redirects.
    Transparent,
    /// Accepts carriers.
    Carriers,
    /// Accepts an operator's control connections.
    Control,
    /// A server's listener, whose connections are forwarded to a client.
    Remote,
    /// A client's end of a listener at its server; no socket listens.
    Forward,
    /// Accepts connections for monitoring.
    Metrics,
}

impl ListenerPurpose {
    fn code(self) -> u32 {
        match self {
            Self::Applications => 1,
            Self::Transparent => 2,
            Self::Carriers => 3,
            Self::Control => 4,
            Self::Remote => 5,
            Self::Forward => 6,
            Self::Metrics => 7,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        let local = [Self::Applications, Self::Transparent, Self::Carriers, Self::Control];
        let all = local.into_iter().chain([Self::Remote, Self::Forward, Self::Metrics]);
        all.into_iter().find(|purpose| purpose.code() == code)
    }
}

/// The description by which a later process finds a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListenerRule {
    pub(crate) purpose: ListenerPurpose,
    /// The address, as the user wrote it.
    pub(crate) text: String,
    /// The device and the inode number of a Unix socket's file.
    pub(crate) file: Option<(u64, u64)>,
    /// The session to which a server's listener, or a client's end of one, belongs.
    pub(crate) owner: Option<ListenerOwner>,
}

impl ListenerRule {
    /// Returns the rule of a session's listener at a server.
    pub(crate) fn remote(listen: &Listen, owner: ListenerOwner) -> Self {
        let (purpose, text) = (ListenerPurpose::Remote, listen.to_string());
        Self { purpose, text, file: None, owner: Some(owner) }
    }
}

/// The session of a server's listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ListenerOwner {
    /// At a server, the tunnel.
    pub(crate) tunnel: TunnelId,
    pub(crate) session: SessionId,
    /// At a server, the listening task's end of the socket pair: its descriptor and its cookie.
    pub(crate) pair: (RawFd, u64),
}

/// The record of a listening socket. Dropping it clears the record, which must happen before the
/// socket is closed.
#[derive(Debug)]
pub(crate) struct KeptListener {
    memory: Arc<Memory>,
    index: u32,
    /// The number that all sockets of one listener share.
    number: u32,
}

impl KeptListener {
    /// Returns the number of the listener.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for KeptListener {
    fn drop(&mut self) {
        let at = self.memory.listeners.at(self.index);
        self.memory.set_first(at, 0);
        Entries::new(TableKind::Listeners).give_one(&self.memory, self.index);
    }
}

/// A listening socket that an earlier process has left.
#[derive(Debug)]
pub(crate) struct FoundListener {
    pub(crate) kept: KeptListener,
    pub(crate) rule: ListenerRule,
    pub(crate) descriptor: RawFd,
    pub(crate) cookie: u64,
}

/// Returns the body of a record, by which the next process finds the socket.
pub(crate) fn identify(socket: impl AsFd) -> Option<(RawFd, u64)> {
    let socket = socket.as_fd();
    Some((socket.as_raw_fd(), eternaltcp_sys::cookie(socket).ok()?))
}

/// Returns a number for the sockets of one listener. Numbers increase.
pub(crate) fn next_number() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl StoreMemory {
    /// Returns the listening sockets that an earlier process has left, the oldest first. Call this
    /// once, before the first new listener.
    pub(crate) fn recover_listeners(&self) -> Vec<FoundListener> {
        self.0.listeners.reload(&self.0.words);
        recover(&self.0)
    }

    /// Keeps a listening socket. Returns `None` if there is no room for its record.
    pub(crate) fn keep_listener(
        &self,
        rule: &ListenerRule,
        number: u32,
        socket: (RawFd, u64),
    ) -> Option<KeptListener> {
        keep(&self.0, rule, number, socket)
    }
}

/// Keeps a listening socket. Returns `None` if there is no room for its record.
fn keep(
    memory: &Arc<Memory>,
    rule: &ListenerRule,
    number: u32,
    (descriptor, cookie): (RawFd, u64),
) -> Option<KeptListener> {
    let mut writer = RecordWriter::default();
    writer.u32(number);
    writer.text(&rule.text);
    writer.u8(rule.file.is_some().into());
    let (device, inode) = rule.file.unwrap_or_default();
    writer.u64(device);
    writer.u64(inode);
    writer.u8(rule.owner.is_some().into());
    if let Some(ListenerOwner { tunnel, session, pair: (descriptor, cookie) }) = rule.owner {
        writer.array(tunnel.0);
        writer.u32(session.get());
        writer.u32(descriptor.cast_unsigned());
        writer.u64(cookie);
    }
    let body = writer.into_bytes();
    if body.len() > MAX_BODY {
        return None;
    }
    let descriptor = u32::try_from(descriptor).ok()?;
    let index = Entries::new(TableKind::Listeners).take_one(memory)?;
    let at = memory.listeners.at(index);
    memory.words.store(at + BODY, &body);
    memory.set(at + COOKIE, cookie);
    memory.set(at + CHECKSUM, checksum(&body));
    memory.set(at + LENGTH, body.len() as u64);
    memory.set(at, u64::from(descriptor) << 32 | u64::from(rule.purpose.code()));
    Some(KeptListener { memory: Arc::clone(memory), index, number })
}

/// Returns the listening sockets that an earlier process has left, the oldest first.
fn recover(memory: &Arc<Memory>) -> Vec<FoundListener> {
    let (mut found, mut free) = (Vec::new(), Vec::new());
    for index in 0..memory.listeners.mark() {
        match read(memory, index) {
            Ok((rule, number, descriptor, cookie)) => {
                let kept = KeptListener { memory: Arc::clone(memory), index, number };
                found.push(FoundListener { kept, rule, descriptor, cookie });
            }
            Err(MalformedRecord) => {
                memory.set_first(memory.listeners.at(index), 0);
                free.push(index);
            }
        }
    }
    memory.listeners.set_free(free);
    found.sort_by_key(|listener| listener.kept.number);
    let next = found.last().map_or(0, |listener| listener.kept.number.wrapping_add(1));
    NEXT.fetch_max(next, Ordering::Relaxed);
    found
}

fn read(memory: &Memory, index: u32) -> Decoded<(ListenerRule, u32, RawFd, u64)> {
    let at = memory.listeners.at(index);
    let word = memory.get(at);
    let purpose = ListenerPurpose::from_code(word as u32).ok_or(MalformedRecord)?;
    let descriptor = RawFd::try_from(word >> 32).map_err(|_| MalformedRecord)?;
    let length = usize::try_from(memory.get(at + LENGTH)).map_err(|_| MalformedRecord)?;
    if length > MAX_BODY {
        return Err(MalformedRecord);
    }
    let mut body = vec![0; length];
    memory.words.load(at + BODY, &mut body);
    if memory.get(at + CHECKSUM) != checksum(&body) {
        return Err(MalformedRecord);
    }
    let mut reader = RecordReader::new(&body);
    let number = reader.u32();
    let text = reader.text()?.to_owned();
    let (has_file, file) = (reader.u8() > 0, (reader.u64(), reader.u64()));
    let owner = if reader.u8() > 0 {
        let tunnel = TunnelId(reader.array());
        let session = SessionId::new(reader.u32()).ok_or(MalformedRecord)?;
        Some(ListenerOwner { tunnel, session, pair: (reader.u32().cast_signed(), reader.u64()) })
    } else {
        None
    };
    let rule = ListenerRule { purpose, text, file: has_file.then_some(file), owner };
    Ok((rule, number, descriptor, memory.get(at + COOKIE)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::store::{Size, StoreMemory};

    #[test]
    fn a_listener_is_found_again_by_its_rule_until_its_record_is_dropped() {
        let size = Size::for_held(1 << 20, 1, 1);
        let memory = StoreMemory::create(&size).unwrap();
        let (one, two) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let rule = |text: &str, file| ListenerRule {
            purpose: ListenerPurpose::Applications,
            text: text.to_owned(),
            file,
            owner: file.map(|(_, number)| ListenerOwner {
                tunnel: TunnelId([number as u8; 16]),
                session: SessionId::new(7).unwrap(),
                pair: (9, 1 << 40),
            }),
        };
        let first =
            keep(&memory.0, &rule("localhost:0", None), next_number(), identify(&one).unwrap())
                .unwrap();
        let file = rule("unix:/a", Some((3, 4)));
        let second = keep(&memory.0, &file, next_number(), identify(&two).unwrap()).unwrap();
        assert!(
            keep(&memory.0, &rule(&"x".repeat(500), None), 0, identify(&one).unwrap()).is_none(),
            "too long"
        );
        std::mem::forget((first, second));
        memory.0.listeners.reload(&memory.0.words);
        let mut found = recover(&memory.0);
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0].rule, &found[1].rule), (&rule("localhost:0", None), &file));
        let numbers = [0, 1].map(|at| found[at].kept.number());
        assert!(numbers[0] < numbers[1] && numbers[1] < next_number());
        assert_eq!(Some((found[1].descriptor, found[1].cookie)), identify(&two));
        found.remove(0);
        std::mem::forget(found);
        memory.0.listeners.reload(&memory.0.words);
        let found = recover(&memory.0);
        assert_eq!(found.iter().map(|it| &it.rule).collect::<Vec<_>>(), [&file]);
        // A damaged record is ignored.
        let at = memory.0.listeners.at(found[0].kept.index);
        memory.0.set(at + BODY, 5);
        std::mem::forget(found);
        memory.0.listeners.reload(&memory.0.words);
        assert!(recover(&memory.0).is_empty());
    }
}
