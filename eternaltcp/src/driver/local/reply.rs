//! The exchange with an application that asked for its target, before the stream of its session.

use std::io;
use std::task::Context;

use eternaltcp_proto::Reset;

use crate::dynamic::{Dialect, ProtocolRequest};
use crate::net::last_answer::send_last;
use crate::net::prologue::PrologueStep;
use crate::net::stream::Stream;

/// The progress of that exchange.
#[derive(Debug)]
pub(super) struct ReplyProgress {
    reply: TargetReply,
    /// The length of the request that waits before the stream.
    request: usize,
}

/// The answer to an application that asked for its target.
#[derive(Debug)]
enum TargetReply {
    /// There is none, or it was given.
    Done,
    /// It waits for the target, and is given in this dialect.
    Awaited(Dialect),
    /// The target is connected. This is the answer.
    Due(&'static [u8]),
}

/// The state of the target that an application asked for.
pub(super) enum TargetState {
    Connected,
    Awaited,
    /// It is not connected, for this reason.
    Refused(Reset),
}

/// Whether the application was told that its target is connected.
pub(super) enum Answered {
    Yes,
    NotYet,
    /// It is not connected, for this reason.
    Refused(Reset),
}

impl ReplyProgress {
    pub(super) fn new(asked: Option<ProtocolRequest>) -> Self {
        match asked {
            Some(asked) => {
                Self { reply: TargetReply::Awaited(asked.dialect), request: asked.length }
            }
            None => Self { reply: TargetReply::Done, request: 0 },
        }
    }

    /// Returns whether the request was not read yet. The stream begins behind it.
    pub(super) fn has_request(&self) -> bool {
        self.request > 0
    }

    /// Tells an application that its target is connected, if it asked for that.
    pub(super) fn serve(
        &mut self,
        stream: &Stream,
        cx: &mut Context<'_>,
        target: impl FnOnce() -> TargetState,
    ) -> io::Result<Answered> {
        self.take_request(stream, cx)?;
        if let TargetReply::Awaited(dialect) = self.reply {
            match target() {
                TargetState::Connected => self.reply = TargetReply::Due(dialect.connected()),
                TargetState::Awaited => return Ok(Answered::NotYet),
                TargetState::Refused(reset) => return Ok(Answered::Refused(reset)),
            }
        }
        // The request is read before it is answered, because the marks of a socket assume that
        // order.
        while let TargetReply::Due(text) = self.reply {
            if self.request > 0 || stream.poll_write_ready(cx)?.is_pending() {
                return Ok(Answered::NotYet);
            }
            match stream.try_say(text, PrologueStep::Answer) {
                Ok(()) => self.reply = TargetReply::Done,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Answered::Yes)
    }

    /// Reads the request that precedes the stream.
    fn take_request(&mut self, stream: &Stream, cx: &mut Context<'_>) -> io::Result<()> {
        while self.request > 0 {
            if stream.poll_read_ready(cx)?.is_pending() {
                return Ok(());
            }
            match stream.try_take(self.request) {
                Ok(()) => self.request = 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Records at the socket that the target is not connected, for the next process, which finds no
    /// record of the session any more.
    pub(super) fn note_refused(&mut self, stream: &Stream, cx: &mut Context<'_>, why: &Reset) {
        let TargetReply::Awaited(dialect) = self.reply else { return };
        // A socket without a request is gone.
        if self.take_request(stream, cx).is_ok() && self.request == 0 {
            stream.note_refused(dialect, why.cause);
        }
    }

    /// Returns the dialect of an answer that was not given.
    pub(super) fn owed(&self) -> Option<Dialect> {
        match self.reply {
            TargetReply::Awaited(dialect) => Some(dialect),
            TargetReply::Due(_) | TargetReply::Done => None,
        }
    }
}

/// Ends a connection that has no target, with an answer in its dialect if it has one.
pub(in crate::driver) fn refuse(stream: Stream, dialect: Option<Dialect>, why: &Reset) {
    match dialect {
        Some(dialect) => {
            tokio::spawn(send_last(stream, dialect.refused(why)));
        }
        None => stream.abort(why),
    }
}
