//! The state of a session that was last stored, in little memory.

use bytes::Bytes;

use super::SocketId;
use crate::digest::Digest;
use crate::id::SessionId;
use crate::packet::Kind;
use crate::reason::Reset;
use crate::seq::Seq;
use crate::state::{OpeningState, ReceivingState, SendPhase, SendingState, SessionState};

/// The state of a session, and its socket. It does not contain the session's number.
///
/// There is one for each session. State that is needed only while a session begins or ends is
/// separate, so that an idle session holds no memory for it.
#[derive(Debug)]
pub(super) struct PutSession {
    socket: Option<SocketId>,
    base: Seq,
    next: Seq,
    numbering: u32,
    is_acknowledged: bool,
    is_cut: bool,
    digest: Digest,
    offset: u64,
    end: u64,
    limit: u64,
    dropped: u64,
    receive: ReceivingState,
    transient: Option<Box<Transient>>,
}

/// The part of a state that has its default values between a session's beginning and its end.
#[derive(PartialEq, Eq, Debug)]
struct Transient {
    opening: OpeningState,
    abort: Option<Reset>,
    phase: SendPhase,
    packet: Option<(Kind, Bytes)>,
}

impl PutSession {
    pub(super) fn new(state: SessionState, socket: Option<SocketId>) -> Self {
        Self::with_memory(state, socket, None)
    }

    /// Replaces the state. A session that begins or ends changes several times, so its memory for
    /// that is used again.
    pub(super) fn replace(&mut self, state: SessionState, socket: Option<SocketId>) {
        let memory = self.transient.take();
        *self = Self::with_memory(state, socket, memory);
    }

    fn with_memory(
        state: SessionState,
        socket: Option<SocketId>,
        memory: Option<Box<Transient>>,
    ) -> Self {
        let SessionState { id: _, opening, abort, send, receive } = state;
        let SendingState {
            base,
            next,
            numbering,
            digest,
            offset,
            end,
            limit,
            dropped,
            phase,
            opening: packet,
            is_acknowledged,
            is_cut,
        } = send;
        let is_default = is_default(&opening, abort.as_ref(), &phase, packet.as_ref());
        let transient = (!is_default).then(|| {
            let transient = Transient { opening, abort, phase, packet };
            match memory {
                Some(mut memory) => {
                    *memory = transient;
                    memory
                }
                None => Box::new(transient),
            }
        });
        Self {
            socket,
            base,
            next,
            numbering,
            is_acknowledged,
            is_cut,
            digest,
            offset,
            end,
            limit,
            dropped,
            receive,
            transient,
        }
    }

    /// Returns whether this is the stored state.
    pub(super) fn is(&self, state: &SessionState, socket: Option<SocketId>) -> bool {
        let SessionState { id: _, opening, abort, send, receive } = state;
        let SendingState { base, next, numbering, digest, offset, end, limit, dropped, .. } = *send;
        let numbers = [offset, end, limit, dropped];
        (self.socket, self.base, self.next, self.numbering, self.digest)
            == (socket, base, next, numbering, digest)
            && [self.offset, self.end, self.limit, self.dropped] == numbers
            && (self.is_acknowledged, self.is_cut) == (send.is_acknowledged, send.is_cut)
            && self.receive == *receive
            && match &self.transient {
                None => is_default(opening, abort.as_ref(), &send.phase, send.opening.as_ref()),
                Some(it) => {
                    (&it.opening, &it.abort, &it.phase, &it.packet)
                        == (opening, abort, &send.phase, &send.opening)
                }
            }
    }

    /// Returns the socket that was put.
    pub(super) fn socket(&self) -> Option<SocketId> {
        self.socket
    }

    /// Returns the offset in the stream of the first byte that is kept.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the stored state.
    pub(super) fn state(&self, id: SessionId) -> SessionState {
        let (opening, abort, phase, packet) = match self.transient.as_deref() {
            None => (OpeningState::Established, None, SendPhase::Open, None),
            Some(it) => (it.opening.clone(), it.abort.clone(), it.phase.clone(), it.packet.clone()),
        };
        let send = SendingState {
            base: self.base,
            next: self.next,
            numbering: self.numbering,
            digest: self.digest,
            offset: self.offset,
            end: self.end,
            limit: self.limit,
            dropped: self.dropped,
            phase,
            opening: packet,
            is_acknowledged: self.is_acknowledged,
            is_cut: self.is_cut,
        };
        SessionState { id, opening, abort, send, receive: self.receive.clone() }
    }
}

/// Returns whether the session is established, and neither direction was ended or reset here.
fn is_default(
    opening: &OpeningState,
    abort: Option<&Reset>,
    phase: &SendPhase,
    packet: Option<&(Kind, Bytes)>,
) -> bool {
    let is_open = matches!((opening, phase), (OpeningState::Established, SendPhase::Open));
    is_open && abort.is_none() && packet.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Cause;
    use crate::state::ReceivePhase;

    fn state() -> SessionState {
        let send = SendingState {
            base: Seq::new(3),
            next: Seq::new(5),
            numbering: 1,
            digest: Digest::new(7),
            offset: 20,
            end: 30,
            limit: 4096,
            dropped: 2,
            phase: SendPhase::Open,
            opening: None,
            is_acknowledged: true,
            is_cut: false,
        };
        let receive = ReceivingState {
            next: Seq::new(9),
            digest: Digest::new(8),
            offset: 40,
            taken: 3,
            taken_digest: Digest::new(6),
            limit: 8192,
            used: 11,
            phase: ReceivePhase::Open,
        };
        let id = SessionId::new(5).unwrap();
        SessionState { id, opening: OpeningState::Established, abort: None, send, receive }
    }

    /// Returns states that differ from [`state`] in one field each.
    fn others() -> Vec<SessionState> {
        let changes: [fn(&mut SessionState); 23] = [
            |it| it.opening = OpeningState::Asked,
            |it| it.abort = Some(Reset::new(Cause::Killed)),
            |it| it.send.base = Seq::new(4),
            |it| it.send.next = Seq::new(6),
            |it| it.send.numbering = 2,
            |it| it.send.digest = Digest::new(0),
            |it| it.send.offset = 21,
            |it| it.send.end = 31,
            |it| it.send.limit = 1,
            |it| it.send.dropped = 1,
            |it| it.send.phase = SendPhase::Ending,
            |it| it.send.opening = Some((Kind::Open, Bytes::from_static(b"target"))),
            |it| it.send.is_acknowledged = false,
            |it| it.send.is_cut = true,
            |it| it.receive.next = Seq::new(1),
            |it| it.receive.digest = Digest::new(1),
            |it| it.receive.offset = 1,
            |it| it.receive.taken = 1,
            |it| it.receive.taken_digest = Digest::new(1),
            |it| it.receive.limit = 1,
            |it| it.receive.used = 1,
            |it| it.receive.phase = ReceivePhase::Finished,
            |it| it.send.phase = SendPhase::Reset(Reset::new(Cause::Killed)),
        ];
        let change = |change: fn(&mut SessionState)| {
            let mut state = state();
            change(&mut state);
            state
        };
        changes.into_iter().map(change).collect()
    }

    #[test]
    fn a_state_is_returned_as_it_was_put() {
        for state in others().into_iter().chain([state()]) {
            assert_eq!(PutSession::new(state.clone(), None).state(state.id), state);
        }
    }

    #[test]
    fn a_state_that_replaces_another_is_returned_as_it_was_put() {
        for old in others() {
            for state in others().into_iter().chain([state()]) {
                let mut put = PutSession::new(old.clone(), None);
                put.replace(state.clone(), None);
                assert_eq!(put.state(state.id), state);
            }
        }
    }

    #[test]
    fn a_change_of_any_field_is_noticed() {
        let all: Vec<_> = others().into_iter().chain([state()]).collect();
        let socket = Some(SocketId { descriptor: 5, cookie: 77 });
        for put in &all {
            let kept = PutSession::new(put.clone(), socket);
            for state in &all {
                assert_eq!(kept.is(state, socket), put == state, "{put:?}, {state:?}");
            }
            assert!(!kept.is(put, None));
        }
    }

    #[test]
    fn an_idle_session_takes_little_memory() {
        assert!(PutSession::new(state(), None).transient.is_none());
        let (put, whole) = (size_of::<PutSession>(), size_of::<SessionState>());
        assert!(put <= 160, "{put} of {whole}");
    }
}
