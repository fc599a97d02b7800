//! The operations of a store, and its contents.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::SessionId;
use crate::seq::Seq;
use crate::state::{Boundary, SessionState, TunnelState};

/// Memory that outlives the program that writes it: of one tunnel.
///
/// A call is done or not done, whenever the program dies. What [`Self::put_tunnel`],
/// [`Self::put_session`] and [`Self::remove_session`] say counts from the next
/// [`Self::commit_done`] on, all of it at once; everything else counts at once.
pub trait Store {
    /// The tunnel's record.
    fn put_tunnel(&mut self, state: &TunnelState);

    /// A session's record.
    fn put_session(&mut self, record: &SessionRecord);

    /// A session has no record any more.
    fn remove_session(&mut self, id: SessionId);

    /// The records put since the last call are whole.
    fn commit_done(&mut self);

    /// A packet that has its number. The payload of one of data is in the pieces.
    fn put_packet(&mut self, packet: &PacketEntry);

    /// A packet that is not wanted any more.
    fn clear_packet(&mut self, id: SessionId, numbering: u32, seq: Seq);

    /// Bytes that were read from a session's local socket, with their place in the stream.
    fn put_piece(&mut self, id: SessionId, offset: u64, payload: &Bytes);

    /// Nobody wants a session's bytes before `offset` any more.
    fn free_pieces(&mut self, id: SessionId, offset: u64);

    /// Nobody wants any byte or count of a session any more.
    fn free_session(&mut self, id: SessionId);

    /// How many bytes were read from a session's local socket.
    fn put_consumed(&mut self, id: SessionId, count: u64);

    /// How many bytes were written to a session's local socket.
    fn put_written(&mut self, id: SessionId, count: u64);

    /// The local socket of a session told an error, which it tells once.
    fn put_socket_error(&mut self, id: SessionId);

    /// A system call on a local socket is to begin. Its result is written into the slot
    /// by the kernel.
    fn put_slot(&mut self, id: SessionId, call: Call);

    /// The result of the call has been noted.
    fn clear_slot(&mut self);

    /// All of it, as a program finds it that starts. Records that were put and are not
    /// whole are gone for good.
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
    /// Which [numbering](crate::SendingState::numbering) its number is of.
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
    /// Place of its first byte in the stream.
    pub offset: u64,
    /// The bytes.
    pub payload: Bytes,
}

/// The bytes that a session's local socket gave and took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Bytes read from it.
    pub consumed: u64,
    /// Bytes written to it.
    pub written: u64,
    /// It told an error.
    pub has_failed: bool,
}

/// A system call on a local socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It reads. The number of bytes that were read before.
    Read(u64),
    /// It writes. The number of bytes that were written before.
    Write(u64),
}

/// The system call that was under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Whose local socket it is.
    pub session: SessionId,
    /// What it does.
    pub call: Call,
    /// How many bytes it moved; `None` if the kernel has written nothing here: it did not
    /// begin, or it moved nothing.
    pub count: Option<u32>,
    /// The bytes that it read.
    pub landed: Bytes,
}

/// The contents of a store when a program starts. Nothing of it is vouched for.
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
    /// The bytes that local sockets gave and took.
    pub counts: BTreeMap<SessionId, Counts>,
    /// The system call that was under way.
    pub slot: Option<Slot>,
}
