//! The 20-byte header: five 32-bit unsigned integers, little-endian.

use crate::seq::Seq;

/// The size of a header.
pub const HEADER_LEN: usize = 20;

/// The maximum number of payload bytes of one packet: with its header it fills one TLS record (RFC
/// 8446, section
/// 5.1: 2¹⁴ bytes).
pub const MAX_PAYLOAD: usize = 16 * 1024 - HEADER_LEN;

/// The maximum number of bytes to read from an application at once: four full packets.
pub const READ_SIZE: usize = 4 * MAX_PAYLOAD;

/// The kind of a packet, its first field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// Bytes of a session. Numbered.
    Data = 0,
    /// A sign of life that asks for an [`Kind::Echo`].
    Heartbeat = 1,
    /// The answer to a heartbeat.
    Echo = 2,
    /// An acknowledgement without data.
    Ack = 3,
    /// A session's packet 0 from its opener: the target to connect to. Numbered.
    Open = 4,
    /// A session's packet 0 from the other side: the target is connected. Numbered.
    Opened = 5,
    /// End of stream, with the digest of all data before it. Numbered.
    End = 6,
    /// The session is reset, with the reason. Numbered.
    Reset = 7,
    /// The units that the receiver holds, for a session or the tunnel.
    Limit = 8,
    /// The client asks to bind this carrier to a tunnel.
    Attach = 9,
    /// The server has bound it.
    Attached = 10,
    /// The server has not bound it, and says why.
    Refused = 11,
    /// One session's numbers, during an attach.
    Numbers = 12,
    /// All sessions' numbers have been sent.
    NumbersEnd = 13,
    /// The tunnel is over.
    Close = 14,
    /// The client asks to stand by with this carrier, or the server accepts that.
    Standby = 15,
    /// The client asks to have this carrier join the attached one, or the server accepts that.
    Join = 16,
    /// The server states something about itself.
    Announce = 17,
    /// A heartbeat of a client that asks to be quiet for a while.
    Quiet = 18,
}

impl Kind {
    /// Returns the kind with this value on the wire, if there is one.
    #[must_use]
    pub const fn from_wire(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::Data,
            1 => Self::Heartbeat,
            2 => Self::Echo,
            3 => Self::Ack,
            4 => Self::Open,
            5 => Self::Opened,
            6 => Self::End,
            7 => Self::Reset,
            8 => Self::Limit,
            9 => Self::Attach,
            10 => Self::Attached,
            11 => Self::Refused,
            12 => Self::Numbers,
            13 => Self::NumbersEnd,
            14 => Self::Close,
            15 => Self::Standby,
            16 => Self::Join,
            17 => Self::Announce,
            18 => Self::Quiet,
            _ => return None,
        })
    }

    /// Returns whether packets of this kind have a number and are replayed.
    #[must_use]
    pub const fn is_numbered(self) -> bool {
        matches!(self, Self::Data | Self::Open | Self::Opened | Self::End | Self::Reset)
    }

    /// Returns whether packets of this kind may arrive out of order when there are several
    /// carriers.
    pub(crate) const fn may_be_ahead(self) -> bool {
        matches!(self, Self::Data | Self::End | Self::Reset)
    }

    /// Returns the minimum and the maximum payload of this kind, in bytes.
    #[must_use]
    pub const fn payload_range(self) -> (usize, usize) {
        match self {
            Self::Data => (1, MAX_PAYLOAD),
            Self::Heartbeat | Self::Echo | Self::Ack => (0, 0),
            Self::Opened => (0, 0),
            Self::Open => (1, 512),
            Self::End | Self::Limit | Self::Join | Self::Quiet => (8, 8),
            Self::Reset | Self::Close => (4, 512),
            Self::Refused => (5, 512),
            Self::Attach | Self::Attached => (8, 2048),
            Self::Numbers => (16, 16),
            Self::NumbersEnd => (4, 8),
            Self::Standby => (12, 512),
            Self::Announce => (4, 2048),
        }
    }
}

/// A header as it is on the wire. Parsing checks the kind and the length. The session and the
/// numbers are checked by the code that knows the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// `is_heartbeat`: what the packet is.
    pub kind: Kind,
    /// `curr_sessionID`: the session; 0 is the tunnel itself.
    pub session: u32,
    /// `curr_seqN`: this packet's number.
    pub seq: Seq,
    /// `curr_ackN`: the next number not yet delivered.
    pub ack: Seq,
    /// `length`: the payload bytes that follow.
    pub length: u32,
}

/// The reason why 20 bytes are not a header of this protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// The kind has no meaning in this version.
    #[error("unknown packet kind {0}")]
    UnknownKind(u32),
    /// The length is not allowed for the kind.
    #[error("a {kind:?} packet cannot carry {length} bytes")]
    BadLength {
        /// The kind.
        kind: Kind,
        /// The length claimed.
        length: u32,
    },
}

impl Header {
    /// Returns the header's 20 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let words = [self.kind as u32, self.session, self.seq.get(), self.ack.get(), self.length];
        let mut bytes = [0; HEADER_LEN];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// The kind is unknown, or its length is out of range: nothing is ever allocated from a length
    /// that was not checked here.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let word = |index: usize| {
            let at = index * 4;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (kind, length) = (word(0), word(4));
        let kind = Kind::from_wire(kind).ok_or(HeaderError::UnknownKind(kind))?;
        let (least, most) = kind.payload_range();
        if (length as usize) < least || (length as usize) > most {
            return Err(HeaderError::BadLength { kind, length });
        }
        Ok(Self { kind, session: word(1), seq: Seq::new(word(2)), ack: Seq::new(word(3)), length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_five_little_endian_words() {
        let header = Header {
            kind: Kind::Data,
            session: 0x0102_0304,
            seq: Seq::new(5),
            ack: Seq::new(6),
            length: 7,
        };
        let bytes = header.encode();
        assert_eq!(bytes, [0, 0, 0, 0, 4, 3, 2, 1, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(Header::decode(&bytes), Ok(header));
    }

    #[test]
    fn every_kind_is_decoded_from_its_value() {
        for value in 0..=18 {
            assert_eq!(Kind::from_wire(value).map(|kind| kind as u32), Some(value));
        }
        assert_eq!(Kind::from_wire(19), None);
        assert_eq!(Kind::from_wire(u32::MAX), None);
    }

    #[test]
    fn a_length_out_of_range_is_refused_before_anything_is_allocated() {
        let mut bytes = [0; HEADER_LEN];
        bytes[16..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            Header::decode(&bytes),
            Err(HeaderError::BadLength { kind: Kind::Data, length: u32::MAX })
        );
        bytes[16..].copy_from_slice(&(MAX_PAYLOAD as u32 + 1).to_le_bytes());
        assert!(Header::decode(&bytes).is_err());
        bytes[16..].copy_from_slice(&(MAX_PAYLOAD as u32).to_le_bytes());
        assert!(Header::decode(&bytes).is_ok());
    }
}
