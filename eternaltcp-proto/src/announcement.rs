//! Announcements: what a server states about itself to the clients of its tunnels.

use bytes::Bytes;

use crate::error::Violation;
use crate::packet::Kind;
use crate::transmit::Transmit;
use crate::wire::{FieldWriter, Reader};

/// The subject of an announcement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Topic(u32);

impl Topic {
    /// The keys by which the server will prove itself.
    pub const HOST_KEYS: Self = Self(0);

    /// Returns the topic with this value on the wire. It may have no name in this version.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// Returns the value on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }
}

/// A server's statement about one topic. It replaces the previous statement about the topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// The topic.
    pub topic: Topic,
    /// The statement, in a form that the topic defines: at most [`MAX_CONTENT`] bytes.
    pub content: Bytes,
}

/// The maximum number of bytes of an announcement's content.
pub const MAX_CONTENT: usize = 2044;

impl Announcement {
    pub(crate) fn encode(&self) -> Transmit {
        let payload = FieldWriter::default().u32(self.topic.0).raw(&self.content).finish();
        Transmit::of_tunnel(Kind::Announce, payload)
    }

    pub(crate) fn decode(payload: &Bytes) -> Result<Self, Violation> {
        let mut reader = Reader::new(payload);
        let topic = reader.u32().map_err(Violation::payload(Kind::Announce))?;
        let content = payload.slice_ref(reader.rest());
        Ok(Self { topic: Topic(topic), content })
    }
}
