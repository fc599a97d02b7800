//! Public keys as TLS carries them: a `SubjectPublicKeyInfo` in DER, which is
//! the whole "certificate" of a raw public key (RFC 7250, section 3).
//!
//! Each of the two key types has exactly one encoding, a fixed prefix and the key (RFC 8410,
//! section 4; RFC 5480, section 2). Therefore parsing is a comparison, and everything else, even
//! valid ASN.1, is rejected.

use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData};

use super::{KeyError, PublicKey};

/// `SEQUENCE { SEQUENCE { id-Ed25519 }, BIT STRING (32 bytes) }` up to the key.
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// `SEQUENCE { SEQUENCE { id-ecPublicKey, secp256r1 }, BIT STRING (65 bytes) }`
/// up to the point.
const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
      \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// The first byte of an uncompressed point (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;
/// An uncompressed P-256 point: the tag and two coordinates.
const POINT: usize = 65;

impl PublicKey {
    /// Returns the key as a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for an ECDSA key whose point is not stored
    /// uncompressed.
    pub(crate) fn to_spki(&self) -> Result<Vec<u8>, KeyError> {
        match self.data() {
            KeyData::Ed25519(key) => Ok([ED25519, &key.0].concat()),
            KeyData::Ecdsa(key) if is_point(key.as_sec1_bytes()) => {
                Ok([P256, key.as_sec1_bytes()].concat())
            }
            KeyData::Ecdsa(_) => Err(KeyError::Malformed("the point is not uncompressed".into())),
            other => Err(KeyError::Unsupported(other.algorithm().to_string())),
        }
    }

    /// Parses a DER `SubjectPublicKeyInfo`. Verifying a signature checks later whether a P-256
    /// point is on its curve.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if the bytes are not exactly the encoding of an Ed25519 key, or of a
    /// P-256 key with an uncompressed point.
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        if let Some(key) = der.strip_prefix(ED25519) {
            let key = key.try_into().map_err(|_| malformed())?;
            return Self::from_data(KeyData::Ed25519(Ed25519PublicKey(key)));
        }
        let point = der.strip_prefix(P256).filter(|p| is_point(p)).ok_or_else(malformed)?;
        let key = EcdsaPublicKey::from_sec1_bytes(point).map_err(|_| malformed())?;
        Self::from_data(KeyData::Ecdsa(key))
    }
}

fn is_point(bytes: &[u8]) -> bool {
    bytes.len() == POINT && bytes[0] == UNCOMPRESSED
}

fn malformed() -> KeyError {
    KeyError::Malformed("not the SubjectPublicKeyInfo of an Ed25519 or P-256 key".into())
}
