//! The operations of a store, and its contents.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::SessionId;
use crate::seq::Seq;
use crate::state::{Boundary, SessionState, TunnelState};

/// The memory of one tunnel that outlives the program.
///
/// Each call is atomic with regard to the death of the program. [`Self::put_tunnel`],
/// [`Self::put_session`] and [`Self::remove_session`] take effect together, at the next
/// [`Self::commit_done`]. All other calls take effect at once.
pub trait Store {
    /// Stages the tunnel's record.
    fn put_tunnel(&mut self, state: &TunnelState);

    /// Stages a session's record.
    fn put_session(&mut self, record: &SessionRecord);

    /// Stages the removal of a session's record.
    fn remove_session(&mut self, id: SessionId);

    /// Makes the staged records take effect.
    fn commit_done(&mut self);

    /// Stores a numbered packet. The payload of a packet of data is in the pieces.
    fn put_packet(&mut self, packet: &PacketEntry);

    /// Removes a packet.
    fn clear_packet(&mut self, id: SessionId, numbering: u32, seq: Seq);

    /// Stores bytes that were read from a session's local socket, with their offset in the stream.
    fn put_piece(&mut self, id: SessionId, offset: u64, payload: &Bytes);

    /// Frees a session's bytes before `offset`.
    fn free_pieces(&mut self, id: SessionId, offset: u64);

    /// Frees all bytes and counts of a session.
    fn free_session(&mut self, id: SessionId);

    /// Stores how many bytes were read from a session's local socket.
    fn put_consumed(&mut self, id: SessionId, count: u64);

    /// Stores how many bytes were written to a session's local socket.
    fn put_written(&mut self, id: SessionId, count: u64);

    /// Stores that the local socket of a session returned an error, which it does only once.
    fn put_socket_error(&mut self, id: SessionId);

    /// Stores that a system call on a local socket begins. The kernel writes its result into the
    /// slot.
    fn put_slot(&mut self, id: SessionId, call: Call);

    /// Clears the slot: the result of the call is stored elsewhere.
    fn clear_slot(&mut self);

    /// Returns everything that is stored, for a program that starts. Staged records that did not take
    /// effect are discarded.
    fn contents(&mut self) -> Contents;
}

/// A local socket: its descriptor, and the value that shows that it is still the same socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketId {
    /// The descriptor.
    pub descriptor: i32,
    /// The kernel's number of the socket, which is never used again.
    pub cookie: u64,
}

/// The stored state of a session, without its packets, pieces and counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRecord {
    /// The tunnel's part.
    pub state: SessionState,
    /// Its local socket, if it has one.
    pub socket: Option<SocketId>,
}

/// A numbered packet of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketEntry {
    /// The session.
    pub session: SessionId,
    /// The [numbering](crate::SendingState::numbering) to which its number belongs.
    pub numbering: u32,
    /// The number.
    pub seq: Seq,
    /// Its kind and its length.
    pub boundary: Boundary,
}

/// Bytes that were read from a session's local socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The session.
    pub session: SessionId,
    /// The offset of its first byte in the stream.
    pub offset: u64,
    /// The bytes.
    pub payload: Bytes,
}

/// The number of bytes that were read from and written to a session's local socket.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Bytes read from it.
    pub consumed: u64,
    /// Bytes written to it.
    pub written: u64,
    /// Whether it returned an error.
    pub has_failed: bool,
}

/// A system call on a local socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// A read, with the number of bytes that were read before it.
    Read(u64),
    /// A write, with the number of bytes that were written before it.
    Write(u64),
}

/// The system call that was in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// The session whose local socket it used.
    pub session: SessionId,
    /// Its kind.
    pub call: Call,
    /// The number of bytes that it moved. `None` if the kernel has written no result: the call did
    /// not begin, or moved nothing.
    pub count: Option<u32>,
    /// The bytes that the call read.
    pub landed: Bytes,
}

/// The contents of a store when a program starts. They may be damaged.
#[derive(Clone, Default, Debug)]
pub struct Contents {
    /// The tunnel's record.
    pub tunnel: Option<TunnelState>,
    /// The sessions' records.
    pub sessions: BTreeMap<SessionId, SessionRecord>,
    /// Numbered packets, in no order.
    pub packets: Vec<PacketEntry>,
    /// Payload, in no order.
    pub pieces: Vec<Piece>,
    /// The counts of each local socket.
    pub counts: BTreeMap<SessionId, Counts>,
    /// The system call that was in progress.
    pub slot: Option<Slot>,
}
