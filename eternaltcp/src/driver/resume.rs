//! Continues with a tunnel that an earlier process has left.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use eternaltcp_proto::kept::RecoveredSession;
use eternaltcp_proto::{
    Cause, Config, OpeningState, ReceivePhase, Reset, RestoreError, SendPhase, SessionState, Time,
    Tunnel,
};
use eternaltcp_sys::{MovedBytes, moved_bytes};
use tracing::warn;

use super::local::LocalProgress;
use super::metadata::Metadata;
use super::mirror::TunnelMirror;
use super::{SessionChange, Sockets};
use crate::dynamic::ProtocolRequest;
use crate::net::slots::Slots;
use crate::net::stream::Stream;
use crate::recovery::RecoveredTunnel;
use crate::store::SocketMark;

/// The socket of a session, and its progress.
#[derive(Debug)]
pub(super) struct RecoveredSocket {
    pub(super) stream: Stream,
    pub(super) metadata: Metadata,
    /// The steps before its stream that were not done.
    pub(super) asked: Option<ProtocolRequest>,
    pub(super) progress: LocalProgress,
}

impl RecoveredTunnel {
    /// Returns the tunnel, which is detached, and its sockets, whose descriptors are taken from
    /// `slots`. A session whose socket is gone is reset.
    ///
    /// # Errors
    /// The stored state is inconsistent. The sockets are reset then.
    pub(crate) fn restore(
        mut self,
        config: Config,
        slots: &Slots,
    ) -> Result<(Tunnel, Sockets), RestoreError> {
        self.kept.store().set_reading(true);
        let mut tunnel = match self.kept.restore(config, &self.recovered) {
            Ok(tunnel) => tunnel,
            Err(error) => {
                self.end();
                return Err(error);
            }
        };
        let Self { kept, recovered, sockets: mut found, .. } = self;
        let notes: Vec<_> = recovered
            .sessions
            .iter()
            .map(|session| kept.store().found_session_note(session.detached.state.id))
            .collect();
        let mut sockets = Sockets::new(TunnelMirror::resume(kept));
        for (session, note) in recovered.sessions.into_iter().zip(notes) {
            let socket = found.remove(&session.detached.state.id);
            sockets.restore(&mut tunnel, &session, socket, note, slots);
        }
        sockets.mirror().end_reading();
        Ok((tunnel, sockets))
    }
}

impl Sockets {
    fn restore(
        &mut self,
        tunnel: &mut Tunnel,
        session: &RecoveredSession,
        socket: Option<OwnedFd>,
        note: Option<Bytes>,
        slots: &Slots,
    ) {
        let state = &session.detached.state;
        let id = state.id;
        let written = state.receive.offset + session.detached.surplus;
        let note = note.and_then(|note| Metadata::decode(&note, state.send.end, written).ok());
        let (metadata, asked) = note.unzip();
        let asked = asked.flatten();
        let stream = socket.and_then(|socket| Stream::recovered(socket).ok());
        let (stream, metadata) = match (stream, metadata) {
            (Some(stream), Some(metadata)) => {
                if cfg!(debug_assertions) && asked.is_none() && !session.is_damaged {
                    check_counts(&stream, state, written);
                }
                let asked = remaining(&stream, asked);
                let stream = match slots.take_again() {
                    Some(slot) => stream.with_slot(slot),
                    None => stream,
                };
                let progress = progress(session, self.mirror().has_failed(id));
                return self
                    .insert_recovered(id, RecoveredSocket { stream, metadata, asked, progress });
            }
            parts => parts,
        };
        let is_lost = session.socket.is_some() || needs_socket(state);
        if let Some(metadata) = metadata {
            if is_lost {
                self.news().note(id, &metadata, SessionChange::Lost);
            } else if is_tail(state) {
                // Its end was noted if the peer had everything.
                self.news().note_tail(id, &metadata, tunnel);
            }
            self.insert_metadata(id, metadata);
        }
        if is_lost {
            warn!(session = id.get(), "the local connection of a session is lost: it is reset");
            let detail = "its local connection is lost";
            tunnel.reset(Time::ZERO, id, Reset::with_detail(Cause::Unresumable, detail));
            self.mirror().release(id);
            let _ = self.mirror().commit(tunnel);
        }
        // The socket is reset when it is closed, because no record names it any more.
        drop(stream);
    }
}

/// The maximum number of bytes written to a socket that are not part of its stream: the kernel
/// counts the beginning and the end of a connection, and a target may have got a header of the
/// PROXY protocol.
const BESIDE: u64 = 2 + 52;

/// Compares the recorded state of a socket with the kernel's: a check for tests.
fn check_counts(stream: &Stream, state: &SessionState, written: u64) {
    let moved = stream.descriptor().ok().and_then(|socket| moved_bytes(socket).ok().flatten());
    let Some(MovedBytes { read, written: known }) = moved else { return };
    if state.send.phase == SendPhase::Open {
        // The end of the stream may have arrived already.
        let consumed = state.send.end;
        let is_right = *read.start() <= consumed + 1 && consumed <= *read.end();
        assert!(is_right, "{consumed} bytes were read, and the kernel says {read:?}");
    }
    if state.receive.phase == ReceivePhase::Open {
        let least = known.start().saturating_sub(BESIDE);
        let is_right = least <= written && written <= *known.end();
        assert!(is_right, "{written} bytes were written, and the kernel says {known:?}");
    }
}

/// Returns the steps that are left before the stream of a session, by the mark of its socket.
fn remaining(stream: &Stream, asked: Option<ProtocolRequest>) -> Option<ProtocolRequest> {
    match stream.found_mark() {
        // The reset that refused it may not have been committed.
        SocketMark::Unanswered | SocketMark::Refused(..) => {
            asked.map(|asked| ProtocolRequest { length: 0, ..asked })
        }
        SocketMark::Used | SocketMark::Dismissed => None,
        // Nothing was read or written before it was marked.
        _ => {
            stream.mark(if asked.is_some() { SocketMark::Asked } else { SocketMark::Used });
            asked
        }
    }
}

/// Returns the progress of a session's socket, which may have reported an error.
fn progress(session: &RecoveredSession, has_failed: bool) -> LocalProgress {
    let state = &session.detached.state;
    let is_read_out = state.send.phase != SendPhase::Open;
    LocalProgress {
        is_read_out,
        is_shut: state.receive.phase == ReceivePhase::Finished,
        failed: (has_failed && !is_read_out)
            .then(|| Reset::with_detail(Cause::Application, "the connection was reset")),
    }
}

/// Returns whether a session's socket has ended in order.
fn is_tail(state: &SessionState) -> bool {
    let is_read_out = matches!(state.send.phase, SendPhase::Ending | SendPhase::Ended);
    is_read_out && state.receive.phase == ReceivePhase::Finished
}

/// Returns whether a session still needs a socket.
fn needs_socket(state: &SessionState) -> bool {
    let is_offered = matches!(state.opening, OpeningState::Offered(_));
    let is_open = state.send.phase == SendPhase::Open || state.receive.phase == ReceivePhase::Open;
    is_open && !is_offered
}
