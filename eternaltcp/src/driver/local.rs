//! One session's local socket, and how it is served.

mod reply;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use eternaltcp_proto::{Cause, Delivery, READ_SIZE, Reset, SessionId, Time, Tunnel};
use tokio::time::Instant;

use super::metadata::Metadata;
use super::mirror::{AdoptedMark, TunnelMirror};
use super::patience::PendingReset;
use super::ready::{ReadyList, SocketWaker};
use crate::dynamic::ProtocolRequest;
use crate::memory::BLOCK;
use crate::net::stream::Stream;
pub(super) use reply::refuse;
use reply::{Answered, ReplyProgress, TargetState};

/// A read must fit a block.
const _: () = assert!(READ_SIZE <= BLOCK);

/// The maximum number of slices given to the kernel in one write.
const SLICES: usize = 32;

/// A socket that is not read for this long is prepared for a longer wait. Bulk that waits for its
/// path is read more often.
pub(super) const HELD: Duration = Duration::from_millis(100);

/// A local socket and the state of its two directions.
#[derive(Debug)]
pub(super) struct Local {
    stream: Stream,
    id: SessionId,
    list: Arc<SocketWaker>,
    waker: Waker,
    /// Whether the socket was told that its target is connected.
    is_connected: bool,
    /// Whether its end of stream was read.
    is_read_out: bool,
    /// Whether its sending direction was shut down.
    is_shut: bool,
    /// Set while a reset waits for the socket to take the data before it.
    patience: Option<PendingReset>,
    /// The time since which it is not read because there is no room.
    held_since: Option<Time>,
    /// Whether it was prepared for a long wait.
    is_prepared: bool,
    /// The session's metadata for the status.
    metadata: Metadata,
    /// The answer to its application, which precedes any data of the target.
    reply: ReplyProgress,
    /// The error that it has reported. The data that it sent before come first.
    failed: Option<Reset>,
}

/// The progress of a socket's two directions in an earlier process.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct LocalProgress {
    pub(super) is_read_out: bool,
    pub(super) is_shut: bool,
    /// The error that the socket has reported.
    pub(super) failed: Option<Reset>,
}

/// The result of serving a socket.
pub(super) enum Served {
    /// It remains open.
    Open,
    /// More can be done at once: serve it again after the others.
    More,
    /// Both its directions ended in order.
    Ended,
    /// Its application or target reset it.
    Broken(Reset),
    /// It must be reset now, by the peer or the tunnel.
    Abort(Reset),
}

impl Local {
    pub(super) fn new(
        stream: Stream,
        id: SessionId,
        list: &Arc<ReadyList>,
        metadata: Metadata,
        asked: Option<ProtocolRequest>,
    ) -> Self {
        let list = SocketWaker::new(id, Arc::clone(list));
        let waker = Waker::from(Arc::clone(&list));
        Self {
            stream,
            id,
            list,
            waker,
            is_connected: false,
            is_read_out: false,
            is_shut: false,
            patience: None,
            held_since: None,
            is_prepared: false,
            metadata,
            reply: ReplyProgress::new(asked),
            failed: None,
        }
    }

    /// Continues where an earlier process has stopped.
    #[cfg(target_os = "linux")]
    pub(super) fn resuming(mut self, progress: LocalProgress) -> Self {
        let LocalProgress { is_read_out, is_shut, failed } = progress;
        (self.is_read_out, self.is_shut, self.failed) = (is_read_out, is_shut, failed);
        self
    }

    /// Moves a bounded amount of data.
    pub(super) fn serve(
        &mut self,
        now: Time,
        tunnel: &mut Tunnel,
        mirror: &mut TunnelMirror,
    ) -> Served {
        self.list.take();
        self.tell_connected(tunnel);
        match self.reply(tunnel) {
            Ok(Answered::Yes) => {
                if let Some(end) = self.write(now, tunnel, mirror) {
                    return end;
                }
            }
            Ok(Answered::NotYet) => {}
            Ok(Answered::Refused(reset)) => return Served::Abort(reset),
            Err(error) => return Served::Broken(reset_of(&error)),
        }
        match self.read(now, tunnel, mirror) {
            Ok(more) if self.is_read_out && self.is_shut => {
                debug_assert!(!more);
                Served::Ended
            }
            Ok(true) => Served::More,
            Ok(false) => Served::Open,
            Err(reset) => Served::Broken(reset),
        }
    }

    fn tell_connected(&mut self, tunnel: &Tunnel) {
        if !self.is_connected && tunnel.is_established(self.id) {
            self.is_connected = true;
            self.stream.set_connected();
        }
    }

    /// Tells an application that its target is connected, if it asked for that.
    fn reply(&mut self, tunnel: &Tunnel) -> io::Result<Answered> {
        let (id, is_connected) = (self.id, self.is_connected);
        self.reply.serve(&self.stream, &mut Context::from_waker(&self.waker), || {
            match (is_connected, tunnel.pending_reset(id)) {
                (true, _) => TargetState::Connected,
                (false, Some(reset)) => TargetState::Refused(reset.clone()),
                (false, None) => TargetState::Awaited,
            }
        })
    }

    /// Writes the deliverable data. Returns how the socket ends, if it does.
    fn write(
        &mut self,
        now: Time,
        tunnel: &mut Tunnel,
        mirror: &mut TunnelMirror,
    ) -> Option<Served> {
        loop {
            match tunnel.delivery(self.id) {
                Delivery::Nothing => return None,
                Delivery::Data(_) => match self.write_data(now, tunnel, mirror) {
                    Ok(true) => {}
                    Ok(false) => return self.check_patience(tunnel),
                    Err(error) => return Some(Served::Broken(reset_of(&error))),
                },
                Delivery::End => {
                    // A socket that is gone shows this when it is read.
                    let _ = self.stream.shut_sending();
                    self.is_shut = true;
                    tunnel.delivered_ending(now, self.id);
                }
                Delivery::Reset(reset) => {
                    // The other end's kernel has taken everything: a reset loses nothing.
                    if self.stream.unsent() == 0 {
                        return Some(Served::Abort(reset.clone()));
                    }
                    return self.check_patience(tunnel);
                }
            }
        }
    }

    /// Writes once. Returns whether the socket may take more.
    fn write_data(
        &mut self,
        now: Time,
        tunnel: &mut Tunnel,
        mirror: &mut TunnelMirror,
    ) -> io::Result<bool> {
        let mut cx = Context::from_waker(&self.waker);
        if self.stream.poll_write_ready(&mut cx)?.is_pending() {
            return Ok(false);
        }
        let mut parts = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (place, part) in parts.iter_mut().zip(tunnel.deliverable(self.id)) {
            *place = IoSlice::new(part);
            count += 1;
        }
        match mirror.write(self.id, &self.stream, &parts[..count]) {
            Ok(taken) => {
                tunnel.delivered(now, self.id, taken);
                self.metadata.count_written(taken);
                if let Some(patience) = &mut self.patience {
                    *patience = PendingReset::new(Instant::now(), self.stream.unsent());
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Checks whether a reset has waited too long behind data that the socket does not take.
    fn check_patience(&mut self, tunnel: &Tunnel) -> Option<Served> {
        let reset = tunnel.pending_reset(self.id)?;
        let (now, unsent) = (Instant::now(), self.stream.unsent());
        let patience = self.patience.get_or_insert_with(|| PendingReset::new(now, unsent));
        patience.is_over(now, unsent).then(|| Served::Abort(reset.clone()))
    }

    /// Reads once, if the tunnel has room. Returns whether the socket may have more.
    fn read(
        &mut self,
        now: Time,
        tunnel: &mut Tunnel,
        mirror: &mut TunnelMirror,
    ) -> Result<bool, Reset> {
        let room = tunnel.capacity(self.id);
        if self.is_read_out || self.reply.has_request() {
            return Ok(false);
        }
        if room == 0 {
            self.held_since.get_or_insert(now);
            return Ok(false);
        }
        self.held_since = None;
        let mut cx = Context::from_waker(&self.waker);
        if self.stream.poll_read_ready(&mut cx).map_err(|error| reset_of(&error))?.is_pending() {
            return Ok(false);
        }
        match mirror.read(self.id, &self.stream, room.min(READ_SIZE)) {
            Ok(bytes) if bytes.is_empty() => {
                if let Some(reset) = self.failed.take() {
                    return Err(reset);
                }
                self.is_read_out = true;
                tunnel.finish(now, self.id);
                Ok(false)
            }
            Ok(bytes) => {
                self.metadata.count_read(bytes.len());
                tunnel.write(now, self.id, bytes);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.failed.take() {
                Some(reset) => Err(reset),
                None => Ok(true),
            },
            // Bytes may wait that arrived before the error, but no second one.
            Err(error) => match self.failed.take() {
                Some(reset) => Err(reset),
                None => {
                    self.failed = Some(reset_of(&error));
                    Ok(true)
                }
            },
        }
    }

    /// Returns whether it is not read because there is no room, and may have to be prepared for a
    /// long wait.
    pub(super) fn is_held(&self) -> bool {
        self.held_since.is_some() && !self.is_prepared
    }

    /// Prepares it for a long wait when it has been held for [`HELD`].
    pub(super) fn check_held(&mut self, now: Time) {
        if !self.is_prepared && self.held_since.is_some_and(|since| now.since(since) >= HELD) {
            self.stream.hold();
            self.is_prepared = true;
        }
    }

    /// Returns whether nobody would notice the socket's death, because it is not being read.
    pub(super) fn is_unwatched(&self, tunnel: &Tunnel) -> bool {
        self.is_read_out || tunnel.capacity(self.id) == 0
    }

    pub(super) fn is_dead(&self) -> bool {
        self.stream.is_dead()
    }

    /// Returns the session's metadata for the status.
    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the address to which it is connected, if known.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.stream.target()
    }

    /// Returns whether a reset waits for the socket.
    pub(super) fn is_resetting(&self) -> bool {
        self.patience.is_some()
    }

    /// Marks the socket with its progress, for the next process.
    #[cfg(target_os = "linux")]
    pub(super) fn mark(&self, mark: AdoptedMark) {
        self.stream.mark(mark);
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn mark(&self, mark: AdoptedMark) {
        match mark {}
    }

    /// Lets the socket end in order when it is dropped, because both its directions have ended.
    pub(super) fn prepare_end(&self) {
        self.stream.prepare_end();
    }

    /// Prepares [`Self::abort`] while the record of the session names the socket.
    pub(super) fn prepare_abort(&mut self, why: &Reset) {
        self.reply.note_refused(&self.stream, &mut Context::from_waker(&self.waker), why);
    }

    /// Resets the socket, or tells an application that waits for its target that there is none.
    pub(super) fn abort(self, why: &Reset) {
        refuse(self.stream, self.reply.owed(), why);
    }
}

fn reset_of(error: &io::Error) -> Reset {
    Reset::with_detail(Cause::Application, error.to_string())
}
