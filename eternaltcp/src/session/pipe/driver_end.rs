//! The end of the stream that a driver serves, as it serves a socket.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use eternaltcp_proto::{Cause, Reset};

use super::flow::register;
use super::{PipeState, ProgramState, SharedPipe};

/// The driver's end. Dropping it resets the stream, unless both directions have ended in order.
#[derive(Debug)]
pub(crate) struct DriverEnd(Arc<SharedPipe>);

impl DriverEnd {
    pub(super) fn new(shared: Arc<SharedPipe>) -> Self {
        Self(shared)
    }

    pub(crate) fn poll_read_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.up.is_ended || !state.up.is_empty() {
            return Poll::Ready(());
        }
        register(&mut state.up.reader, cx);
        Poll::Pending
    }

    /// Returns whether a write would not wait. After the program has dropped its end, that is the case
    /// once the data that it wrote are read: a failed write ends the session.
    pub(crate) fn poll_write_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        let is_ready = match state.program {
            ProgramState::Open => state.down.has_room(),
            ProgramState::Dropped { .. } => state.up.is_read_out,
            ProgramState::Aborted => true,
        };
        if is_ready {
            return Poll::Ready(());
        }
        register(&mut state.down.writer, cx);
        Poll::Pending
    }

    /// Reads at most `most` bytes; 0 means the end of stream.
    pub(crate) fn try_read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        self.0.change(|state, woken| {
            if !state.up.is_empty() {
                let count = state.up.take(most, |bytes| buffer.extend_from_slice(bytes));
                woken.extend(state.up.writer.take());
                return Ok(count);
            }
            if !state.up.is_ended {
                return Err(ErrorKind::WouldBlock.into());
            }
            state.up.is_read_out = true;
            woken.extend(state.down.writer.take());
            match state.broken() {
                Some(why) => Err(io::Error::new(ErrorKind::ConnectionReset, why)),
                None => Ok(0),
            }
        })
    }

    pub(crate) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.change(|state, woken| {
            if state.program != ProgramState::Open {
                let why = state.broken().unwrap_or("the program has closed its stream");
                return Err(io::Error::new(ErrorKind::BrokenPipe, why));
            }
            if !state.down.has_room() {
                return Err(ErrorKind::WouldBlock.into());
            }
            woken.extend(state.down.reader.take());
            Ok(parts.iter().map(|part| state.down.put(part)).sum())
        })
    }

    /// Reports that the target at the other side is connected.
    pub(crate) fn set_connected(&self) {
        self.0.change(|state, woken| {
            state.is_connected = true;
            woken.extend(state.connecting.take());
        });
    }

    /// Ends the direction to the program.
    pub(crate) fn shut_sending(&self) {
        self.0.change(|state, woken| {
            state.down.is_ended = true;
            woken.extend(state.down.reader.take());
        });
    }

    /// Returns whether the program has ended the stream with a reset, even while nothing is read.
    pub(crate) fn is_dead(&self) -> bool {
        let state = self.0.lock();
        let is_taken = state.up.is_read_out || state.program == ProgramState::Aborted;
        is_taken && state.broken().is_some()
    }

    /// Ends the stream with a reset: the program sees the reason after the data that preceded it.
    pub(crate) fn reset(&self, why: &Reset) {
        self.0.change(|state, woken| {
            state.reset.get_or_insert_with(|| why.clone());
            state.up.clear();
            woken.extend(state.up.writer.take());
            woken.extend(state.down.reader.take());
            woken.extend(state.connecting.take());
        });
    }
}

impl Drop for DriverEnd {
    fn drop(&mut self) {
        let is_over = {
            let state = self.0.lock();
            state.up.is_read_out && state.down.is_ended
        };
        if !is_over {
            self.reset(&Reset::new(Cause::TunnelOver));
        }
    }
}

impl PipeState {
    /// Returns why the stream did not end in order, if the program caused it.
    fn broken(&self) -> Option<&'static str> {
        match self.program {
            ProgramState::Aborted => Some("the program aborted it"),
            ProgramState::Dropped { is_unread: true } => {
                Some("the program closed it with data unread")
            }
            ProgramState::Dropped { is_unread: false } | ProgramState::Open => None,
        }
    }
}
