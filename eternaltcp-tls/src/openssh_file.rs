//! OpenSSH's private-key format (its PROTOCOL.key), with all variations that ssh-keygen accepts.
//!
//! The ssh-key crate requires lines of 70 columns, comments in UTF-8, the shortest padding, and
//! P-256 scalars of full length. Not all programs write these, and ssh-keygen itself drops leading
//! zeros of a scalar. Therefore a file is parsed here, and passed to ssh-key in the only form that
//! it reads.

use base64ct::{Base64, Encoding};
use ssh_key::PrivateKey;
use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &[u8] = b"-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// The unit of padding without encryption.
const BLOCK: usize = 8;
/// Bytes of a P-256 scalar.
const SCALAR: usize = 32;

/// The fault in a file.
pub(super) type Damage = &'static str;

const SHORT: Damage = "it ends too early";

/// The binary content of a private-key file, wiped from memory when dropped.
pub(super) struct Blob(Zeroizing<Vec<u8>>);

/// The parts of the content that are needed.
struct Parts<'a> {
    cipher: &'a [u8],
    /// The function that makes the cipher's key from a passphrase.
    kdf: &'a [u8],
    /// The public key.
    public: &'a [u8],
    /// The private key, its comment and padding; encrypted unless `cipher` is "none".
    private: &'a [u8],
    /// The authentication tag of the private part, for ciphers that have one.
    tag: &'a [u8],
}

impl Blob {
    /// Decodes the text of a file: base64 between two marks, with spaces and line ends anywhere in
    /// it, and any text around it.
    pub(super) fn from_text(text: &[u8]) -> Result<Self, Damage> {
        let start = find(text, BEGIN).ok_or("there is no line BEGIN OPENSSH PRIVATE KEY")?;
        let text = &text[start + BEGIN.len()..];
        let end = find(text, END).ok_or("there is no line END OPENSSH PRIVATE KEY")?;
        // Allocated at full size: growing would leave copies in memory.
        let mut base64 = Zeroizing::new(Vec::with_capacity(end));
        base64.extend(text[..end].iter().filter(|byte| !byte.is_ascii_whitespace()));
        let base64 = std::str::from_utf8(&base64).map_err(|_| "it is not in base64")?;
        let blob = Base64::decode_vec(base64).map_err(|_| "it is not in base64")?;
        Ok(Self(Zeroizing::new(blob)))
    }

    /// Returns the name of the key's type.
    pub(super) fn kind(&self) -> Result<String, Damage> {
        let mut public = self.parts()?.public;
        Ok(String::from_utf8_lossy(take_string(&mut public)?).into_owned())
    }

    /// Returns the key. Only the public half of an encrypted key is usable.
    pub(super) fn key(&self) -> Result<PrivateKey, String> {
        let parts = self.parts()?;
        match (parts.cipher, parts.kdf) {
            (b"none", b"none") => plain(parts.public, parts.private),
            _ => PrivateKey::from_bytes(&self.0).map_err(|error| error.to_string()),
        }
    }

    /// Returns the key, decrypted with its passphrase.
    pub(super) fn decrypt(
        &self,
        sealed: &PrivateKey,
        passphrase: &str,
    ) -> Result<PrivateKey, String> {
        let parts = self.parts()?;
        let tag = <[u8; 16]>::try_from(parts.tag).ok();
        let mut private = Zeroizing::new(parts.private.to_vec());
        let cipher = sealed.cipher();
        sealed
            .kdf()
            .derive_key_and_iv(cipher, passphrase)
            .and_then(|(key, iv)| Ok(cipher.decrypt(&key, &iv, &mut private, tag)?))
            .map_err(|error| error.to_string())?;
        plain(parts.public, &private)
    }

    fn parts(&self) -> Result<Parts<'_>, Damage> {
        let mut rest = self.0.strip_prefix(MAGIC).ok_or("it is of an unknown format")?;
        let cipher = take_string(&mut rest)?;
        let kdf = take_string(&mut rest)?;
        let _kdf_options = take_string(&mut rest)?;
        if take(&mut rest, 4)? != 1_u32.to_be_bytes() {
            return Err("it does not hold one key");
        }
        let (public, private) = (take_string(&mut rest)?, take_string(&mut rest)?);
        Ok(Parts { cipher, kdf, public, private, tag: rest })
    }
}

/// Returns the key that consists of these unencrypted halves.
fn plain(public: &[u8], private: &[u8]) -> Result<PrivateKey, String> {
    let private = tidy(private)?;
    let mut blob = Zeroizing::new(Vec::with_capacity(public.len() + private.len() + 64));
    blob.extend_from_slice(MAGIC);
    put_string(&mut blob, b"none");
    put_string(&mut blob, b"none");
    put_string(&mut blob, b"");
    blob.extend_from_slice(&1_u32.to_be_bytes());
    put_string(&mut blob, public);
    put_string(&mut blob, &private);
    PrivateKey::from_bytes(&blob).map_err(|error| error.to_string())
}

/// Returns the private part in a canonical form: its comment in UTF-8, the shortest padding, and a
/// scalar of full length.
fn tidy(private: &[u8]) -> Result<Zeroizing<Vec<u8>>, Damage> {
    let mut rest = private;
    let check = take(&mut rest, 8)?;
    if check[..4] != check[4..] {
        return Err("its check bytes differ");
    }
    // The upper bound: each byte of a comment becomes at most three.
    let mut tidied = Zeroizing::new(Vec::with_capacity(private.len() * 3 + SCALAR));
    tidied.extend_from_slice(check);
    let kind = take_string(&mut rest)?;
    put_string(&mut tidied, kind);
    put_string(&mut tidied, take_string(&mut rest)?);
    put_string(&mut tidied, take_string(&mut rest)?);
    if kind.starts_with(b"ecdsa-") {
        let scalar = take_string(&mut rest)?;
        let mut full = Zeroizing::new(vec![0; SCALAR.saturating_sub(scalar.len())]);
        full.extend_from_slice(scalar);
        put_string(&mut tidied, &full);
    }
    put_string(&mut tidied, String::from_utf8_lossy(take_string(&mut rest)?).as_bytes());
    if !rest.iter().zip(1_u8..).all(|(byte, expected)| *byte == expected) || rest.len() > 255 {
        return Err("its padding is wrong");
    }
    let padding = tidied.len().next_multiple_of(BLOCK) - tidied.len();
    tidied.extend((1_u8..).take(padding));
    Ok(tidied)
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Damage> {
    let (taken, after) = rest.split_at_checked(count).ok_or(SHORT)?;
    *rest = after;
    Ok(taken)
}

/// Takes a length of four bytes, and that many bytes.
fn take_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Damage> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    *rest = after;
    take(rest, u32::from_be_bytes(*length) as usize)
}

fn put_string(to: &mut Vec<u8>, string: &[u8]) {
    // Each is part of a file of limited length.
    let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(string);
}
