//! A tunnel's state as plain values: what outlives the program that drives it.
//!
//! It contains neither the state of a carrier nor received data that was not delivered: the peer
//! keeps the latter until it is delivered, and sends it again.

use bytes::Bytes;

use crate::attach::AttachSettings;
use crate::digest::Digest;
use crate::id::{Epoch, SessionId, Side, TunnelId};
use crate::packet::Kind;
use crate::reason::{Closing, Reset};
use crate::seq::Seq;

/// The state of a tunnel, without its sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelState {
    /// The side of the tunnel.
    pub side: Side,
    /// The id that the server gave it, if it was ever attached.
    pub id: Option<TunnelId>,
    /// The epoch of the newest attach.
    pub epoch: Epoch,
    /// The next session that this side opens; `None` when its half is used up.
    pub next_id: Option<SessionId>,
    /// The highest session that the peer opened.
    pub peer_id: Option<SessionId>,
    /// The settings that the peer stated at the last attach.
    pub peer: Option<AttachSettings>,
    /// The advertised limit of the whole tunnel.
    pub tunnel_limit: u64,
    /// The advertised limit of a new session.
    pub session_limit: u64,
    /// The reason why it was closed, if it was.
    pub closing: Option<Closing>,
}

/// The state of a session, without payload of the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionState {
    /// The session.
    pub id: SessionId,
    /// The progress of its opening.
    pub opening: OpeningState,
    /// The reason why the local socket must be reset, unless the peer has reset the session.
    pub abort: Option<Reset>,
    /// The direction to the peer.
    pub send: SendingState,
    /// The direction from the peer.
    pub receive: ReceivingState,
}

/// The progress of a session's opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpeningState {
    /// This side opened it, and the peer has not answered.
    Asked,
    /// The peer opened it with this target, and the driver has not answered.
    Offered(Bytes),
    /// The target is connected, or the opening was answered by a reset.
    Established,
}

/// One direction of a session, at its sender. Payload is identified by its offset in the stream,
/// counted from the application's first byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendingState {
    /// The number of the first packet that is kept.
    pub base: Seq,
    /// The number that the next new packet gets.
    pub next: Seq,
    /// The number of times that packets were renumbered. A number belongs to the same packet as
    /// long as this does not change.
    pub numbering: u32,
    /// The digest before the first packet that is kept.
    pub digest: Digest,
    /// The offset in the stream of the first byte that is kept.
    pub offset: u64,
    /// The offset after the last byte that was taken from the application.
    pub end: u64,
    /// The limit of this session that the peer advertised.
    pub limit: u64,
    /// Cost of data that were dropped and that the peer still holds.
    pub dropped: u64,
    /// The end of this direction.
    pub phase: SendPhase,
    /// The session's packet 0, as long as it is kept.
    pub opening: Option<(Kind, Bytes)>,
    /// Whether the peer has acknowledged anything.
    pub is_acknowledged: bool,
    /// Whether data were dropped.
    pub is_cut: bool,
}

/// The end of the direction to the peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendPhase {
    /// The application may still write.
    Open,
    /// The end of stream follows the last byte.
    Ending,
    /// The end of stream has its number.
    Ended,
    /// The reset follows the last byte.
    Resetting(Reset),
    /// The reset has got its packet number.
    Reset(Reset),
    /// The peer has delivered the end, or there is no peer to deliver it.
    Done,
    /// The peer has delivered the reset.
    DoneReset,
}

/// One direction of a session, at its receiver: how far it was delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceivingState {
    /// The next number not delivered.
    pub next: Seq,
    /// The digest of the packets that were delivered completely.
    pub digest: Digest,
    /// The offset in the stream after the last packet that was delivered whole.
    pub offset: u64,
    /// The number of bytes of the next packet that the local socket has taken.
    pub taken: u64,
    /// The digest with these bytes counted as a packet.
    pub taken_digest: Digest,
    /// The limit of this session that was advertised to the peer.
    pub limit: u64,
    /// Cost delivered since the limit was last raised.
    pub used: u64,
    /// The end of this direction.
    pub phase: ReceivePhase,
}

/// The progress of the direction from the peer towards its end, with what was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceivePhase {
    /// More may come.
    Open,
    /// The end of stream was passed on.
    Finished,
    /// The local socket is gone: what arrives counts as delivered.
    Discarding,
    /// The local socket is gone, and the stream has ended.
    DiscardedEnd,
    /// The local socket is gone, and a reset was received.
    DiscardedReset,
}

/// The facts about a numbered packet that cannot change, besides its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boundary {
    /// The packet's kind.
    pub kind: Kind,
    /// Its payload bytes.
    pub length: u32,
}

/// A session without its tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetachedSession {
    /// Its state.
    pub state: SessionState,
    /// The packets from [`SendingState::base`] to [`SendingState::next`].
    pub boundaries: Vec<Boundary>,
    /// The application's bytes from [`SendingState::offset`] to [`SendingState::end`].
    pub payload: Vec<Bytes>,
    /// The number of bytes that the local socket has taken from [`ReceivingState::offset`] on.
    pub surplus: u64,
}

/// The reason why a tunnel cannot be made of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreError {
    /// Two sessions have one number, or one has no place in the tunnel.
    #[error("the sessions do not fit the tunnel")]
    Sessions,
    /// The state of a session is inconsistent.
    #[error("the state of session {} is damaged", .0.get())]
    Damaged(SessionId),
}

/// The state of a session is inconsistent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Damaged;

/// The limit of offsets in a stream, and of sums of costs, so that a damaged state causes no
/// overflow.
pub(crate) const MAX_PLACE: u64 = 1 << 60;

/// The application's bytes of a session, taken in pieces of any length.
pub(crate) struct ByteQueue {
    chunks: std::collections::VecDeque<Bytes>,
}

impl ByteQueue {
    pub(crate) fn new(chunks: Vec<Bytes>) -> Self {
        Self { chunks: chunks.into() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    /// Takes the next `length` bytes, without a copy if they lie in one chunk.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, Damaged> {
        let mut taken = Vec::new();
        while let Some(front) = self.chunks.front_mut() {
            let missing = length - taken.len();
            if front.len() > missing {
                let part = front.split_to(missing);
                if taken.is_empty() {
                    return Ok(part);
                }
                taken.extend_from_slice(&part);
                return Ok(taken.into());
            }
            let whole = self.chunks.pop_front().unwrap_or_default();
            if whole.len() == length {
                return Ok(whole);
            }
            taken.extend_from_slice(&whole);
            if taken.len() == length {
                return Ok(taken.into());
            }
        }
        if length == 0 { Ok(Bytes::new()) } else { Err(Damaged) }
    }

    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        self.chunks.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_taken_in_order_across_chunks_and_never_beyond_its_end() {
        let chunks = ["abc", "", "d", "efgh"].map(|text| Bytes::from_static(text.as_bytes()));
        let mut payload = ByteQueue::new(chunks.to_vec());
        assert_eq!(payload.len(), 8);
        for expected in ["ab", "cde", "fg"] {
            assert_eq!(payload.take(expected.len()).ok().as_deref(), Some(expected.as_bytes()));
        }
        assert!(payload.take(2).is_err());
    }
}
