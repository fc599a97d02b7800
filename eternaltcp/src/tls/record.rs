//! The outer form of TLS records: the five-byte header and its limits
//! (RFC 8446, sections 5.1 and 5.2).

use super::Alert;
use super::error::Fault;

/// The bytes before a record's content: type, version, length.
pub(super) const HEADER: usize = 5;
/// The most application data in one record.
pub(super) const MAX_PLAINTEXT: usize = 16_384;
/// The most content that a record may have once it is protected.
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;
/// The high byte of every version that a header may show.
const VERSION_MAJOR: u8 = 3;

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ContentType {
    /// A relic that middleboxes want to see in the handshake.
    ChangeCipherSpec = 20,
    Alert = 21,
    Handshake = 22,
    /// Application data, and outside of every protected record.
    ApplicationData = 23,
}

impl ContentType {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::ApplicationData,
            _ => return None,
        })
    }
}

/// A header that was read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) content: ContentType,
    /// Bytes that follow the header.
    length: usize,
}

/// Why bytes are not the front of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// No version of TLS begins a record so.
    NotTls,
    /// The record claims more than the limit.
    TooLong,
}

impl Header {
    /// The header at the front of `bytes`; none yet while it is incomplete.
    /// Judges what is there, so that a peer of another protocol is noticed at
    /// its first byte and not after five.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, HeaderFault> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let content = ContentType::from_byte(first).ok_or(HeaderFault::NotTls)?;
        if bytes.get(1).is_some_and(|major| *major != VERSION_MAJOR) {
            return Err(HeaderFault::NotTls);
        }
        let Some(&[_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_CIPHERTEXT {
            return Err(HeaderFault::TooLong);
        }
        Ok(Some(Self { content, length }))
    }

    /// The length of the whole record, header included.
    pub(super) fn record_len(self) -> usize {
        HEADER + self.length
    }
}

/// The header of a protected record with `length` bytes of ciphertext and tag;
/// also what its tag covers (RFC 8446, section 5.2).
pub(super) fn protected_header(length: usize) -> [u8; HEADER] {
    // Bounded by MAX_PLAINTEXT and the tag, far below 2^16.
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    [ContentType::ApplicationData as u8, VERSION_MAJOR, 3, high, low]
}

impl From<HeaderFault> for Fault {
    fn from(fault: HeaderFault) -> Self {
        match fault {
            HeaderFault::NotTls => Self::misbehaved(Alert::UNEXPECTED_MESSAGE, "no TLS record"),
            HeaderFault::TooLong => {
                Self::misbehaved(Alert::RECORD_OVERFLOW, "a record longer than the limit")
            }
        }
    }
}
