//! Protecting single records with the keys of one direction (RFC 8446,
//! sections 5.2 to 5.5). Knows no connection: the caller changes the keys.

use std::fmt;
use std::ops::Range;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN,
    NONCE_LEN, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::record::{ContentType, HEADER, MAX_PLAINTEXT, protected_header};

/// What protection adds to the application data of one record: the header,
/// the content type and the tag.
pub(super) const OVERHEAD: usize = HEADER + 1 + MAX_TAG_LEN;

/// One direction's key, its nonces and how many of them are used up.
pub(super) struct Keys {
    aead: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

/// The library gave a key that this module cannot use.
#[derive(Debug)]
pub(super) struct UnusableKey;

impl Keys {
    /// The keys that rustls made for a direction, `sequence` records of which are done.
    pub(super) fn new(
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<Self, UnusableKey> {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        match secrets {
            Aes128Gcm { key, iv } => Self::from_parts(sequence, &AES_128_GCM, key, iv),
            Aes256Gcm { key, iv } => Self::from_parts(sequence, &AES_256_GCM, key, iv),
            Chacha20Poly1305 { key, iv } => Self::from_parts(sequence, &CHACHA20_POLY1305, key, iv),
            _ => Err(UnusableKey),
        }
    }

    pub(super) fn from_parts(
        sequence: u64,
        algorithm: &'static Algorithm,
        key: impl AsRef<[u8]>,
        iv: impl AsRef<[u8]>,
    ) -> Result<Self, UnusableKey> {
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| UnusableKey)?;
        let iv = iv.as_ref().try_into().map_err(|_| UnusableKey)?;
        Ok(Self { aead: LessSafeKey::new(key), iv, sequence })
    }

    /// The next record's nonce: the sequence number, padded on the left, xor
    /// the IV (RFC 8446, section 5.3). None once they are used up.
    fn next_nonce(&mut self) -> Option<Nonce> {
        let next = self.sequence.checked_add(1)?;
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().rev().zip(self.sequence.to_le_bytes()) {
            *byte ^= number;
        }
        self.sequence = next;
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(sequence {})", self.sequence)
    }
}

/// Protects the records of the sending direction.
#[derive(Debug)]
pub(super) struct Sealer(Keys);

/// A record under construction: where it starts in the outgoing bytes.
/// Append the content to them, then call [`Sealer::finish`].
#[derive(Debug)]
pub(super) struct OpenRecord {
    start: usize,
}

impl Sealer {
    pub(super) fn new(keys: Keys) -> Self {
        Self(keys)
    }

    /// How many records this key has protected.
    pub(super) fn records(&self) -> u64 {
        self.0.sequence
    }

    /// Starts a record with room for `content` bytes.
    pub(super) fn begin(outgoing: &mut Vec<u8>, content: usize) -> OpenRecord {
        outgoing.reserve(content + OVERHEAD);
        let start = outgoing.len();
        outgoing.extend_from_slice(&[0; HEADER]);
        OpenRecord { start }
    }

    /// Protects, in place, what was appended since [`begin`](Self::begin). None
    /// if the key is used up or the record too long; it is then taken back.
    pub(super) fn finish(
        &mut self,
        record: OpenRecord,
        content: ContentType,
        outgoing: &mut Vec<u8>,
    ) -> Option<()> {
        let sealed = self.seal(record.start, content, outgoing);
        if sealed.is_none() {
            outgoing.truncate(record.start);
        }
        sealed
    }

    fn seal(&mut self, start: usize, content: ContentType, out: &mut Vec<u8>) -> Option<()> {
        out.push(content as u8);
        let inner = out.len().checked_sub(start + HEADER).filter(|n| *n <= MAX_PLAINTEXT + 1)?;
        let header = protected_header(inner + MAX_TAG_LEN);
        out[start..start + HEADER].copy_from_slice(&header);
        let nonce = self.0.next_nonce()?;
        let body = &mut out[start + HEADER..];
        let tag = self.0.aead.seal_in_place_separate_tag(nonce, Aad::from(header), body).ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(())
    }
}

/// Opens the records of the receiving direction.
#[derive(Debug)]
pub(super) struct Opener(Keys);

/// Why a protected record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenFault {
    /// It does not authenticate.
    Forged,
    /// Its content is longer than the limit.
    TooLong,
    /// It has no content type, or one that may not be protected.
    NoContent,
}

impl Opener {
    pub(super) fn new(keys: Keys) -> Self {
        Self(keys)
    }

    /// Decrypts the whole record `record` in place. Says what it carries, and
    /// where in `record` that lies.
    pub(super) fn open(
        &mut self,
        record: &mut [u8],
    ) -> Result<(ContentType, Range<usize>), OpenFault> {
        let (header, body) = record.split_first_chunk_mut::<HEADER>().ok_or(OpenFault::Forged)?;
        let nonce = self.0.next_nonce().ok_or(OpenFault::Forged)?;
        let inner = self
            .0
            .aead
            .open_in_place(nonce, Aad::from(*header), body)
            .map_err(|_| OpenFault::Forged)?;
        if inner.len() > MAX_PLAINTEXT + 1 {
            return Err(OpenFault::TooLong);
        }
        // The content, its type, and zeros as padding (RFC 8446, section 5.4).
        let end = inner.iter().rposition(|byte| *byte != 0).ok_or(OpenFault::NoContent)?;
        match ContentType::from_byte(inner[end]) {
            None | Some(ContentType::ChangeCipherSpec) => Err(OpenFault::NoContent),
            Some(content) => Ok((content, HEADER..HEADER + end)),
        }
    }
}
