//! The end of the stream that a program reads and writes.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::flow::register;
use super::{ProgramState, SharedPipe};
use crate::session::error_of;

/// The program's end. Dropping it ends both directions, as with TCP.
#[derive(Debug)]
pub(crate) struct ProgramEnd(Arc<SharedPipe>);

impl ProgramEnd {
    pub(super) fn new(shared: Arc<SharedPipe>) -> Self {
        Self(shared)
    }

    /// Returns whether the other side's target is connected; an error if it will not be.
    pub(crate) fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        match &state.reset {
            _ if state.is_connected => Poll::Ready(Ok(())),
            Some(reset) => Poll::Ready(Err(error_of(reset))),
            None => {
                register(&mut state.connecting, cx);
                Poll::Pending
            }
        }
    }

    /// Reads. Data that arrived before a reset are read before the reset is reported.
    pub(crate) fn poll_read(
        &self,
        cx: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.change(|state, woken| {
            if !state.down.is_empty() {
                state.down.take(buffer.remaining(), |bytes| buffer.put_slice(bytes));
                woken.extend(state.down.writer.take());
                return Poll::Ready(Ok(()));
            }
            match &state.reset {
                Some(reset) => Poll::Ready(Err(error_of(reset))),
                None if state.down.is_ended => Poll::Ready(Ok(())),
                None => {
                    register(&mut state.down.reader, cx);
                    Poll::Pending
                }
            }
        })
    }

    pub(crate) fn poll_write(
        &self,
        cx: &Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.change(|state, woken| {
            if let Some(reset) = &state.reset {
                return Poll::Ready(Err(error_of(reset)));
            }
            if state.up.is_ended {
                let why = "the stream was shut down for writing";
                return Poll::Ready(Err(io::Error::new(ErrorKind::BrokenPipe, why)));
            }
            if !state.up.has_room() {
                register(&mut state.up.writer, cx);
                return Poll::Pending;
            }
            let count = parts.iter().map(|part| state.up.put(part)).sum();
            woken.extend(state.up.reader.take());
            Poll::Ready(Ok(count))
        })
    }

    /// Ends the direction to the driver.
    pub(crate) fn shut(&self) -> io::Result<()> {
        self.0.change(|state, woken| {
            if let Some(reset) = &state.reset {
                return Err(error_of(reset));
            }
            state.up.is_ended = true;
            woken.extend(state.up.reader.take());
            Ok(())
        })
    }

    /// Ends the stream with a reset; data that the driver has not taken are dropped.
    pub(crate) fn abort(self) {
        self.end(|_| ProgramState::Aborted);
    }

    fn end(&self, how: impl FnOnce(bool) -> ProgramState) {
        self.0.change(|state, woken| {
            if state.program != ProgramState::Open {
                return;
            }
            state.program = how(!state.down.is_empty());
            if state.program == ProgramState::Aborted {
                state.up.clear();
            }
            state.up.is_ended = true;
            state.down.clear();
            woken.extend(state.up.reader.take());
            woken.extend(state.down.writer.take());
        });
    }
}

impl Drop for ProgramEnd {
    fn drop(&mut self) {
        self.end(|is_unread| ProgramState::Dropped { is_unread });
    }
}
