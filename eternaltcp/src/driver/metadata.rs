//! The metadata of a session in the status: its origin, its target, its start.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use eternaltcp_proto::{SessionId, SessionView};

#[cfg(target_os = "linux")]
use crate::dynamic::{Dialect, ProtocolRequest};
use crate::net::stream::{Stream, peer_name};
use crate::status::SessionStatus;
#[cfg(target_os = "linux")]
use crate::store::{MalformedRecord, RecordReader, RecordWriter};
use crate::target::describe_target;

/// A session's origin, and how much its local socket moved.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    /// The application, if it is on this side.
    from: Option<Box<str>>,
    /// The payload of its `open`.
    target: Bytes,
    opened_at: SystemTime,
    /// Bytes read from the local socket, and written to it.
    read: u64,
    written: u64,
}

impl Metadata {
    /// Describes a session that a local application opened.
    pub(super) fn opened(stream: &Stream, target: Bytes) -> Self {
        Self { from: Some(peer_name(stream).into()), ..Self::offered(target) }
    }

    /// Describes a session that the peer opened.
    pub(super) fn offered(target: Bytes) -> Self {
        Self { from: None, target, opened_at: SystemTime::now(), read: 0, written: 0 }
    }

    /// Encodes it for the store.
    #[cfg(target_os = "linux")]
    pub(super) fn encode(&self, writer: &mut RecordWriter, asked: Option<&ProtocolRequest>) {
        writer.bytes(&self.target);
        writer.text(self.from.as_deref().unwrap_or_default());
        writer.u64(seconds_of(self.opened_at));
        writer.u8(asked.map_or(0, |asked| asked.dialect.code()));
        writer.u32(asked.map_or(0, |asked| u32::try_from(asked.length).unwrap_or(u32::MAX)));
    }

    /// Decodes the metadata that [`Self::encode`] has written, of a session that has read and
    /// written these numbers of bytes.
    #[cfg(target_os = "linux")]
    pub(super) fn decode(
        note: &[u8],
        read: u64,
        written: u64,
    ) -> Result<(Self, Option<ProtocolRequest>), MalformedRecord> {
        let mut reader = RecordReader::new(note);
        let target = Bytes::copy_from_slice(reader.bytes()?);
        let from = Some(reader.text()?).filter(|from| !from.is_empty()).map(Box::from);
        let opened_at = time_of(reader.u64());
        let (dialect, length) = (Dialect::from_code(reader.u8()), reader.u32() as usize);
        let asked = dialect.map(|dialect| ProtocolRequest { dialect, length });
        Ok((Self { from, target, opened_at, read, written }, asked))
    }

    /// Returns the payload of its `open`.
    pub(crate) fn target(&self) -> &Bytes {
        &self.target
    }

    /// Returns the time at which the session was opened.
    pub(crate) fn opened_at(&self) -> SystemTime {
        self.opened_at
    }

    /// Returns the number of bytes that the local socket has sent, and the number that it was given.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.read, self.written)
    }

    /// Counts bytes read from the local socket.
    pub(super) fn count_read(&mut self, count: usize) {
        self.read += count as u64;
    }

    /// Counts bytes written to the local socket.
    pub(super) fn count_written(&mut self, count: usize) {
        self.written += count as u64;
    }

    pub(super) fn status(&self, id: SessionId, view: &SessionView) -> SessionStatus {
        SessionStatus {
            session: id.get(),
            stage: view.stage.into(),
            from: self.from.as_deref().map(str::to_owned),
            target: describe_target(&self.target),
            opened_at: self.opened_at,
            sent_bytes: self.read,
            received_bytes: self.written,
            queued_bytes: view.queued,
            undelivered_bytes: view.undelivered,
        }
    }
}

/// Returns a point in time as seconds.
pub(super) fn seconds_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns the point in time of [`seconds_of`].
pub(super) fn time_of(seconds: u64) -> SystemTime {
    let since = Duration::from_secs(seconds);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}
