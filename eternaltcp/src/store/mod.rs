//! The store: memory that outlives the process, with the state that the next process needs to
//! continue its tunnels.
//!
//! The store consists of two files in memory: tables, whose records have a fixed length, and
//! payload, which has no format. A record is valid when its first word is not zero. That word is
//! written last and cleared first. No record links to another in a way that a death could leave
//! incomplete: the next process reads each table from its beginning and sorts the records.
//!
//! One [`StoreMemory`] serves all tunnels of a process. Each tunnel has its own [`TunnelStore`],
//! with records and blocks that no other tunnel uses, so that tunnels on several threads do not
//! wait for each other.

#[cfg(all(feature = "client", feature = "server"))]
mod body;
mod copies;
mod drain;
mod entries;
mod fields;
mod format;
mod layout;
mod listeners;
mod mark;
mod memory;
mod note;
#[cfg(all(feature = "client", feature = "server"))]
mod pair;
mod payload;
mod pieces;
mod record;
mod recover;
mod session;
mod slot;
mod spare;
mod step;
mod suspects;
mod tables;
mod tunnel;

pub use format::Unreadable;
pub use layout::Size;
pub use memory::{StoreMemory, StoreOpenError};
pub(crate) use tunnel::TunnelTotals;
pub use tunnel::{DamagedTunnel, TunnelStore};

pub(crate) use fields::{MalformedRecord, RecordReader, RecordWriter};
pub(crate) use listeners::{
    FoundListener, KeptListener, ListenerOwner, ListenerPurpose, ListenerRule, identify,
};
pub(crate) use mark::SocketMark;

#[cfg(all(feature = "client", feature = "server"))]
pub(crate) use body::damaged;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use eternaltcp_sys::NotedCall;

/// The size of a block in bytes.
pub(crate) const BLOCK: usize = crate::memory::BLOCK;

/// The minimum time for which unused memory stays allocated.
const PAUSE: Duration = Duration::from_secs(1);

/// The store of this process, if it has one.
static OF_PROCESS: OnceLock<StoreMemory> = OnceLock::new();

/// Makes this the store of the process: it keeps the tunnels that begin later. Returns whether
/// there was none before.
pub fn install(memory: StoreMemory) -> bool {
    OF_PROCESS.set(memory).is_ok()
}

/// Returns the store of a new tunnel, in the store of the process.
pub(crate) fn new_tunnel() -> Option<TunnelStore> {
    OF_PROCESS.get()?.new_tunnel()
}

/// Returns whether this process has a store.
pub(crate) fn is_kept() -> bool {
    OF_PROCESS.get().is_some()
}

/// Makes a one-time call on a socket, as [`StoreMemory::step`] does. Returns `None` if this process
/// has no store.
pub(crate) fn step(
    socket: BorrowedFd<'_>,
    mark: SocketMark,
    call: impl FnOnce(&mut NotedCall) -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    Some(OF_PROCESS.get()?.step(socket, mark, call))
}

/// Keeps the sockets of one listener in the store of the process, if there is one.
pub(crate) fn keep_listener<S: AsFd>(rule: &ListenerRule, sockets: &[S]) -> Vec<KeptListener> {
    let Some(memory) = OF_PROCESS.get() else { return Vec::new() };
    let number = listeners::next_number();
    let sockets = sockets.iter().filter_map(identify);
    sockets.filter_map(|socket| memory.keep_listener(rule, number, socket)).collect()
}

/// Keeps a socket, given by its descriptor and its cookie, in the same way.
pub(crate) fn keep_socket(rule: &ListenerRule, socket: (RawFd, u64)) -> Option<KeptListener> {
    OF_PROCESS.get()?.keep_listener(rule, listeners::next_number(), socket)
}

/// Records in the store of the process, if there is one, that the calling thread panics.
pub(crate) fn accuse() {
    if let Some(memory) = OF_PROCESS.get() {
        memory.accuse();
    }
}

/// Records in the store of the process, if there is one, that the process drains until this time
/// since the machine started.
pub(crate) fn keep_drain(until: Option<Duration>, leaves: bool) {
    if let Some(memory) = OF_PROCESS.get() {
        memory.keep_drain(until, leaves);
    }
}

/// Returns memory to the system that no tunnel has used for a while. Works at most once a second.
pub(crate) fn trim() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let (Some(memory), Ok(mut last)) = (OF_PROCESS.get(), LAST.try_lock()) else { return };
    if last.is_none_or(|last| last.elapsed() >= PAUSE) {
        *last = Some(Instant::now());
        memory.trim();
    }
}

#[cfg(all(feature = "client", feature = "server"))]
#[cfg(test)]
mod tests;
