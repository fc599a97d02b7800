//! The driver's records of its tunnel in the store of the process, if there is one.
//!
//! Without a store, the calls on local sockets and the commits are the same, but nothing is
//! recorded.

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use eternaltcp_proto::kept::Committed;
#[cfg(target_os = "linux")]
use eternaltcp_proto::kept::{Kept, SocketId};
use eternaltcp_proto::{READ_SIZE, SessionId, Tunnel};
#[cfg(target_os = "linux")]
use tokio::io::Interest;

use super::metadata::Metadata;
use super::totals::TotalCounts;
use crate::dynamic::ProtocolRequest;
use crate::memory::BlockPool;
use crate::net::stream::Stream;
#[cfg(target_os = "linux")]
use crate::store::SocketMark;
#[cfg(target_os = "linux")]
use crate::store::{self, TunnelStore};

/// The mark of a socket that a session has.
#[cfg(target_os = "linux")]
pub(super) type AdoptedMark = SocketMark;
/// Only a store needs marks.
#[cfg(not(target_os = "linux"))]
pub(super) type AdoptedMark = std::convert::Infallible;

/// The mirror of one tunnel.
#[derive(Debug)]
pub(super) struct TunnelMirror {
    #[cfg(target_os = "linux")]
    kept: Option<Box<Kept<TunnelStore>>>,
    /// Memory for data from local sockets, without a store.
    blocks: BlockPool,
    /// The totals of the earlier processes.
    earlier: TotalCounts,
    /// Whether the store records the tunnel as attached.
    #[cfg(target_os = "linux")]
    is_attached: bool,
    /// Commits since the last one that was compared with the tunnel.
    #[cfg(all(debug_assertions, target_os = "linux"))]
    unchecked: u32,
}

/// The number of commits between two comparisons with the tunnel, in debug builds.
#[cfg(all(debug_assertions, target_os = "linux"))]
const CHECK: u32 = 16;

/// A tunnel that holds more is not compared: it would take too long.
#[cfg(all(debug_assertions, target_os = "linux"))]
const CHECK_HELD: u64 = 64 * 1024;

/// A tunnel with more sessions is not compared either: the comparison would need most of the
/// process's memory.
#[cfg(all(debug_assertions, target_os = "linux"))]
const CHECK_SESSIONS: usize = 100;

impl TunnelMirror {
    /// Begins with a new tunnel.
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            kept: store::new_tunnel().map(|store| Box::new(Kept::new(store))),
            blocks: BlockPool::default(),
            earlier: TotalCounts::begin(),
            #[cfg(target_os = "linux")]
            is_attached: true,
            #[cfg(all(debug_assertions, target_os = "linux"))]
            unchecked: 0,
        }
    }

    /// Continues with a tunnel that an earlier process has left.
    #[cfg(target_os = "linux")]
    pub(super) fn resume(kept: Box<Kept<TunnelStore>>) -> Self {
        // The store has the last state.
        let is_attached = kept.store().detached_since().is_none();
        let earlier = TotalCounts::decode(&kept.store().totals());
        Self {
            kept: Some(kept),
            blocks: BlockPool::default(),
            earlier,
            is_attached,
            #[cfg(debug_assertions)]
            unchecked: 0,
        }
    }

    /// Returns whether there is a store.
    pub(super) fn is_kept(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            self.kept.is_some()
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    /// Returns whether a session's socket has reported an error, to this process or to an earlier
    /// one.
    #[cfg(target_os = "linux")]
    pub(super) fn has_failed(&self, id: SessionId) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.has_failed(id))
    }

    /// Keeps the driver's note about the tunnel for the next process. Returns false, and changes
    /// nothing, if there is no memory for it.
    pub(super) fn set_note(&mut self, note: &[u8]) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &mut self.kept {
            return kept.store_mut().set_note(note);
        }
        let _ = note;
        true
    }

    /// Records that the driver is working: if the process dies now, the tunnel may be the reason.
    pub(super) fn begin_work(&self) {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &self.kept {
            kept.store().set_busy(true);
        }
    }

    /// Records that the state of an earlier process has been read.
    #[cfg(target_os = "linux")]
    pub(super) fn end_reading(&self) {
        if let Some(kept) = &self.kept {
            kept.store().set_reading(false);
        }
    }

    /// Returns the totals of the tunnel over all processes that served it.
    pub(super) fn totals(&self, tunnel: &Tunnel) -> TotalCounts {
        self.earlier.and(&tunnel.stats())
    }

    /// Records that the driver waits, and whether the tunnel is attached.
    pub(super) fn end_work(&mut self, tunnel: &Tunnel) {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &self.kept {
            if self.is_attached != tunnel.is_attached() {
                self.is_attached = tunnel.is_attached();
                let since = (!self.is_attached).then(crate::recovery::boot_time);
                kept.store().set_detached_since(since);
            }
            kept.store().set_totals(&self.totals(tunnel).encode());
            kept.store().set_busy(false);
        }
        let _ = tunnel;
    }

    /// Updates the store with the tunnel's state, before anything is sent on a carrier.
    pub(super) fn commit(&mut self, tunnel: &mut Tunnel) -> Committed {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &mut self.kept {
            let committed = kept.commit(tunnel);
            self.check(tunnel);
            return committed;
        }
        let _ = tunnel;
        Committed::without_store()
    }

    /// Compares the state that the next process would recover with the tunnel.
    #[cfg(target_os = "linux")]
    fn check(&mut self, tunnel: &Tunnel) {
        #[cfg(debug_assertions)]
        if let Some(kept) = &mut self.kept {
            self.unchecked += 1;
            let is_small = tunnel.held() <= CHECK_HELD && tunnel.session_count() <= CHECK_SESSIONS;
            if self.unchecked >= CHECK && is_small {
                self.unchecked = 0;
                assert_eq!(kept.find_stray(tunnel), None, "a change was not told");
                if !kept.store().is_short() {
                    assert_eq!(kept.find_difference(tunnel), None, "it is kept otherwise");
                }
            }
        }
        let _ = tunnel;
    }

    /// Returns whether sockets were adopted or released since the last commit.
    pub(super) fn has_moved(&self) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &self.kept {
            return kept.moved_count() > 0;
        }
        false
    }

    /// Records the socket of a connection that a listener accepted, with the next commit, before
    /// which it must not be read or written. Returns the mark that it gets after that commit.
    pub(super) fn adopt_accepted(
        &mut self,
        id: SessionId,
        stream: &Stream,
        metadata: &Metadata,
        asked: Option<&ProtocolRequest>,
    ) -> Option<AdoptedMark> {
        #[cfg(target_os = "linux")]
        if self.adopt(id, stream, metadata, asked) {
            return Some(if asked.is_some() { SocketMark::Asked } else { SocketMark::Used });
        }
        let _ = (id, stream, metadata, asked);
        None
    }

    /// Records the socket of a connection to a target, with the next commit, before which it must
    /// not be read or written. It gets no mark, because its address is not that of a listener: the
    /// next process does not take it for one that was just accepted.
    pub(super) fn adopt_connected(&mut self, id: SessionId, stream: &Stream, metadata: &Metadata) {
        #[cfg(target_os = "linux")]
        self.adopt(id, stream, metadata, None);
        let _ = (id, stream, metadata);
    }

    /// Records a session's socket. Returns whether there is a store, and a socket.
    #[cfg(target_os = "linux")]
    fn adopt(
        &mut self,
        id: SessionId,
        stream: &Stream,
        metadata: &Metadata,
        asked: Option<&ProtocolRequest>,
    ) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        let Some(socket) = socket_id(stream) else { return false };
        kept.store_mut().set_session_note(id, |writer| metadata.encode(writer, asked));
        kept.adopt(id, socket);
        true
    }

    /// Removes a session's socket from the record, with the next commit. The socket is closed after
    /// that, as its `SO_LINGER` says.
    pub(super) fn release(&mut self, id: SessionId) {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &mut self.kept {
            kept.release(id);
        }
        let _ = id;
    }

    /// Removes the tunnel from the store, before its sockets are closed.
    pub(super) fn end(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(kept) = self.kept.take() {
            kept.into_store().end();
        }
    }

    /// Reads a session's socket once, and returns at most `most` bytes; no bytes mean the end of
    /// the stream.
    pub(super) fn read(
        &mut self,
        id: SessionId,
        stream: &Stream,
        most: usize,
    ) -> io::Result<Bytes> {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &mut self.kept {
            return read_kept(kept, &mut self.blocks, id, stream, most);
        }
        let _ = id;
        read(&mut self.blocks, stream, most)
    }

    /// Writes to a session's socket once.
    pub(super) fn write(
        &mut self,
        id: SessionId,
        stream: &Stream,
        parts: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &mut self.kept {
            return write_kept(kept, id, stream, parts);
        }
        let _ = id;
        stream.try_write(parts)
    }

    /// Frees memory that has been unused since the last call.
    pub(super) fn trim(&mut self) {
        self.blocks.trim();
        #[cfg(target_os = "linux")]
        if let Some(kept) = &mut self.kept {
            kept.store_mut().trim();
            store::trim();
        }
    }
}

fn read(blocks: &mut BlockPool, stream: &Stream, most: usize) -> io::Result<Bytes> {
    let buffer = blocks.room(READ_SIZE);
    let count = stream.try_read(buffer, most)?;
    Ok(take(buffer, count))
}

/// Returns the bytes that were read. A large chunk stays where it is. A small one is copied, so
/// that it does not keep the whole buffer.
fn take(buffer: &mut BytesMut, count: usize) -> Bytes {
    if count >= READ_SIZE / 2 {
        return buffer.split().freeze();
    }
    let chunk = Bytes::copy_from_slice(buffer);
    buffer.clear();
    chunk
}

#[cfg(target_os = "linux")]
fn read_kept(
    kept: &mut Kept<TunnelStore>,
    blocks: &mut BlockPool,
    id: SessionId,
    stream: &Stream,
    most: usize,
) -> io::Result<Bytes> {
    let reading = kept.begin_read(id);
    let store = kept.store_mut();
    let noted = stream.try_call(Interest::READABLE, |socket| store.receive(socket, most));
    let read = match noted {
        Some(count) => count.map(|count| store.landed(count)),
        // The socket is a pair in memory, which ends with the process that has its other end.
        None => read(blocks, stream, most),
    };
    match read {
        Ok(bytes) => {
            kept.end_read(reading, &bytes);
            Ok(bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            kept.end_read(reading, &Bytes::new());
            Err(error)
        }
        Err(error) => {
            kept.fail_read(reading);
            Err(error)
        }
    }
}

#[cfg(target_os = "linux")]
fn write_kept(
    kept: &mut Kept<TunnelStore>,
    id: SessionId,
    stream: &Stream,
    parts: &[IoSlice<'_>],
) -> io::Result<usize> {
    let writing = kept.begin_write(id);
    let store = kept.store_mut();
    let noted = stream.try_call(Interest::WRITABLE, |socket| store.send(socket, parts));
    let written = noted.unwrap_or_else(|| stream.try_write(parts));
    match written {
        Ok(count) => {
            kept.end_write(writing, count);
            Ok(count)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            kept.end_write(writing, 0);
            Err(error)
        }
        Err(error) => {
            kept.fail_write(writing);
            Err(error)
        }
    }
}

/// Returns the identity by which the next process finds a socket. Without one, that process resets
/// the session.
#[cfg(target_os = "linux")]
fn socket_id(stream: &Stream) -> Option<SocketId> {
    use std::os::fd::AsRawFd;
    let descriptor = stream.descriptor().ok()?;
    let cookie = eternaltcp_sys::cookie(descriptor).ok()?;
    Some(SocketId { descriptor: descriptor.as_raw_fd(), cookie })
}
