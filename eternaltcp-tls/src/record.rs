//! Records after the handshake, protected and opened in place (RFC 8446, section 5).
//!
//! rustls derives the keys, and new ones when they are due. It would copy every record twice on the
//! way out and once on the way in. Here a payload is copied once, into the bytes for the socket,
//! and incoming data are not copied at all.

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::TlsError;
use super::fault::TlsFault;

/// The maximum amount of application data in one record.
const MAX_PLAINTEXT: usize = 16_384;

/// The maximum number of bytes that protection may add to it: content type, padding and tag.
const MAX_EXPANSION: usize = 256;

/// The header of a record: type, version, length.
pub(super) const HEADER: usize = 5;

/// The length of the authentication tag, the same for all suites of TLS 1.3.
const TAG: usize = 16;

/// The content type of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Content {
    Alert = 21,
    Handshake = 22,
    Data = 23,
}

/// One direction's key, and the number of its next record.
pub(super) struct TrafficKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
}

impl TrafficKey {
    /// Creates the state from the keys that rustls derived, and the number of the first record
    /// under them.
    pub(super) fn new(
        (number, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, TlsError> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(TlsError::Internal("a cipher that nobody offered".into())),
        };
        Self::from_parts(algorithm, key.as_ref(), iv.as_ref(), number)
    }

    /// Creates the state from a key and an IV, and the number of the first record under them.
    pub(super) fn from_parts(
        algorithm: &'static Algorithm,
        key: &[u8],
        iv: &[u8],
        number: u64,
    ) -> Result<Self, TlsError> {
        let unusable = |_| TlsError::Internal("a key of the wrong length".into());
        let key = UnboundKey::new(algorithm, key).map_err(unusable)?;
        let iv = iv.try_into().map_err(|_| TlsError::Internal("a wrong IV".into()))?;
        Ok(Self { key: LessSafeKey::new(key), iv, number })
    }

    /// Returns whether both keys have the same IV, so that they are made of the same secret.
    pub(super) fn has_same_iv(&self, other: &Self) -> bool {
        self.iv == other.iv
    }

    /// Returns how many records these keys have protected.
    pub(super) fn used(&self) -> u64 {
        self.number
    }

    /// Returns the nonce of the next record (section 5.3). None is used twice: numbers only rise,
    /// and keys are changed long before they run out.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Opens a complete record, including its header. The contents then follow the header, with the
    /// returned length.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(Content, usize), TlsFault> {
        let (header, body) = record.split_at_mut(HEADER);
        let nonce = self.nonce();
        let inner = self
            .key
            .open_in_place(nonce, Aad::from(&*header), body)
            .map_err(|_| TlsFault::tampered())?;
        // Padding consists of zeros; the last other byte is the content type (section 5.4).
        let last = inner.iter().rposition(|byte| *byte != 0);
        let length = last.ok_or_else(|| TlsFault::unexpected("a record without a type"))?;
        if length > MAX_PLAINTEXT {
            return Err(TlsFault::too_long());
        }
        let content = match inner[length] {
            21 => Content::Alert,
            22 => Content::Handshake,
            23 => Content::Data,
            _ => return Err(TlsFault::unexpected("a record of an unknown type")),
        };
        Ok((content, length))
    }
}

/// Returns the length of the record at the front of `bytes`, including its header; `None` if the
/// header is incomplete.
pub(super) fn record_length(bytes: &[u8]) -> Result<Option<usize>, TlsFault> {
    let Some(&[kind, _, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
    if kind != Content::Data as u8 {
        return Err(TlsFault::unexpected("a record that is not protected"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_PLAINTEXT + MAX_EXPANSION {
        return Err(TlsFault::too_long());
    }
    Ok(Some(HEADER + length))
}

/// A record under construction, at the end of the bytes for the socket.
#[derive(Clone, Copy)]
pub(super) struct RecordBuilder {
    start: usize,
}

impl RecordBuilder {
    pub(super) fn begin(outgoing: &mut Vec<u8>) -> Self {
        let start = outgoing.len();
        outgoing.extend_from_slice(&[Content::Data as u8, 3, 3, 0, 0]);
        Self { start }
    }

    /// Adds as much of `data` as fits, and returns the rest.
    pub(super) fn add<'a>(&self, data: &'a [u8], outgoing: &mut Vec<u8>) -> &'a [u8] {
        let room = MAX_PLAINTEXT - self.length(outgoing);
        let (now, later) = data.split_at(data.len().min(room));
        outgoing.extend_from_slice(now);
        later
    }

    pub(super) fn is_full(&self, outgoing: &[u8]) -> bool {
        self.length(outgoing) == MAX_PLAINTEXT
    }

    fn length(&self, outgoing: &[u8]) -> usize {
        outgoing.len() - self.start - HEADER
    }

    /// Protects the record.
    pub(super) fn seal(
        self,
        content: Content,
        keys: &mut TrafficKey,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        outgoing.push(content as u8);
        let failed = || TlsError::Internal("a record cannot be protected".into());
        let length = u16::try_from(self.length(outgoing) + TAG).map_err(|_| failed())?;
        let (header, body) = outgoing[self.start..].split_at_mut(HEADER);
        header[3..].copy_from_slice(&length.to_be_bytes());
        let nonce = keys.nonce();
        let sealed = keys.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), body);
        outgoing.extend_from_slice(sealed.map_err(|_| failed())?.as_ref());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    fn keys() -> TrafficKey {
        let (key, iv) = (AeadKey::from([7; 32]), Iv::from([9; NONCE_LEN]));
        TrafficKey::new((0, ConnectionTrafficSecrets::Aes256Gcm { key, iv })).unwrap()
    }

    /// Returns a record with the given contents, including type and padding.
    fn record(inside: &[u8]) -> Vec<u8> {
        let length = u16::try_from(inside.len() + TAG).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut body = inside.to_vec();
        let mut keys = keys();
        let nonce = keys.nonce();
        keys.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).unwrap();
        [&header[..], &body].concat()
    }

    #[test]
    fn padding_is_taken_off() {
        for padding in [0, 1, 255, 3000] {
            let mut record = record(&[&b"data\0"[..], &[23], &vec![0; padding]].concat());
            let (content, length) = keys().open(&mut record).unwrap();
            assert_eq!(
                (content, &record[HEADER..HEADER + length]),
                (Content::Data, &b"data\0"[..])
            );
        }
    }

    #[test]
    fn the_contents_of_a_record_must_have_a_known_type_and_a_legal_length() {
        let longest = [&[1; MAX_PLAINTEXT][..], &[23]].concat();
        assert_eq!(keys().open(&mut record(&longest)).unwrap().1, MAX_PLAINTEXT);
        let too_long = [&[1; MAX_PLAINTEXT + 1][..], &[23]].concat();
        for (inside, alert) in [(&too_long[..], 22), (&[0; 9], 10), (&[], 10), (&[1, 20], 10)] {
            assert_eq!(keys().open(&mut record(inside)).unwrap_err().alert, alert);
        }
    }

    #[test]
    fn a_record_too_short_for_its_tag_is_forged() {
        for length in 0..TAG {
            let mut record = vec![0; HEADER + length];
            assert_eq!(keys().open(&mut record).unwrap_err().error, TlsError::Tampered);
        }
    }

    #[test]
    fn each_number_has_a_nonce_of_its_own() {
        let mut keys = keys();
        let nonces: std::collections::BTreeSet<_> =
            (0..1000).map(|_| *keys.nonce().as_ref()).collect();
        assert_eq!((nonces.len(), keys.used()), (1000, 1000));
    }
}
