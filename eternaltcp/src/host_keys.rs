//! The announcement of a server's next keys, before it proves itself by them.
//!
//! A client that knows a server by one key cannot tell its next key from a stranger's. So the
//! server announces the next key over a carrier on which it proved the present one, as sshd does
//! (`hostkeys-00@openssh.com`). The next key signs that it follows the present one for this tunnel:
//! nobody can announce a key that is not his.

use bytes::Bytes;
use eternaltcp_proto::{Announcement, Topic, TunnelId};
use eternaltcp_tls::{Identity, PublicKey, SignatureError};

use crate::fields::{push_counted, take_counted};

/// The maximum number of keys of which a server tells its clients.
pub const MAX_NEXT_KEYS: usize = 4;

/// The first bytes of each signed message: nothing else that the keys sign begins so.
const CONTEXT: &[u8] = b"EternalTCP: this key follows\0";

/// Returns what the next key signs.
fn message(tunnel: TunnelId, present: &PublicKey, next: &PublicKey) -> Vec<u8> {
    [CONTEXT, &tunnel.0, format!("{present}\n{next}\n").as_bytes()].concat()
}

/// Returns the announcement to the client of a tunnel. Further keys than [`MAX_NEXT_KEYS`] are left
/// out.
///
/// # Errors
/// A key cannot sign.
pub(crate) fn announce(
    tunnel: TunnelId,
    present: &PublicKey,
    next: &[Identity],
) -> Result<Announcement, SignatureError> {
    let mut content = Vec::new();
    for identity in next.iter().take(MAX_NEXT_KEYS) {
        let key = identity.public_key();
        let signature = identity.sign(&message(tunnel, present, &key))?;
        push_counted(&mut content, key.to_string().as_bytes());
        push_counted(&mut content, &signature);
    }
    Ok(Announcement { topic: Topic::HOST_KEYS, content: content.into() })
}

/// Returns the keys of an announcement whose owners have signed it. Everything else in it is
/// ignored.
pub(crate) fn announced(tunnel: TunnelId, present: &PublicKey, content: &Bytes) -> Vec<PublicKey> {
    let mut rest = &content[..];
    let mut keys = Vec::new();
    while let (Some(text), Some(signature)) = (take_counted(&mut rest), take_counted(&mut rest)) {
        if keys.len() == MAX_NEXT_KEYS {
            break;
        }
        let key = std::str::from_utf8(text).ok().and_then(|it| PublicKey::from_openssh(it).ok());
        let Some(key) = key else { continue };
        if key != *present && key.has_signed(&message(tunnel, present, &key), signature) {
            keys.push(key);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: TunnelId = TunnelId([7; 16]);

    fn keys<const N: usize>() -> [Identity; N] {
        [(); N].map(|()| Identity::generate().unwrap())
    }

    #[test]
    fn keys_are_read_as_they_were_announced() {
        let [present, next, last] = keys();
        let both = [next.public_key(), last.public_key()];
        let present = present.public_key();
        let stated = announce(TUNNEL, &present, &[next, last]).unwrap();
        assert!(stated.content.len() <= eternaltcp_proto::MAX_CONTENT);
        assert_eq!(announced(TUNNEL, &present, &stated.content), both);
        let none = announce(TUNNEL, &present, &[]).unwrap();
        assert_eq!(announced(TUNNEL, &present, &none.content), []);
    }

    #[test]
    fn the_most_keys_fit_and_no_more_are_announced() {
        let [present] = keys();
        let next: [Identity; MAX_NEXT_KEYS + 1] = keys();
        let stated = announce(TUNNEL, &present.public_key(), &next).unwrap();
        assert!(stated.content.len() <= eternaltcp_proto::MAX_CONTENT);
        let read = announced(TUNNEL, &present.public_key(), &stated.content);
        assert_eq!(read.len(), MAX_NEXT_KEYS);
    }

    /// [ANNOUNCE-4]
    #[test]
    fn a_key_that_did_not_sign_this_is_ignored() {
        let [present, next, other] = keys();
        let [key, stranger] = [present.public_key(), other.public_key()];
        let stated = announce(TUNNEL, &key, std::slice::from_ref(&next)).unwrap();
        assert_eq!(announced(TunnelId([8; 16]), &key, &stated.content), []);
        assert_eq!(announced(TUNNEL, &stranger, &stated.content), []);
        // The signature of one key beside the text of another.
        let mut forged = Vec::new();
        push_counted(&mut forged, stranger.to_string().as_bytes());
        let signature = next.sign(&message(TUNNEL, &key, &stranger)).unwrap();
        push_counted(&mut forged, &signature);
        assert_eq!(announced(TUNNEL, &key, &forged.into()), []);
        // The present key is no next one.
        let own = announce(TUNNEL, &key, std::slice::from_ref(&present)).unwrap();
        assert_eq!(announced(TUNNEL, &key, &own.content), []);
    }

    #[test]
    fn no_content_panics() {
        let [present, next] = keys();
        let key = present.public_key();
        let stated = announce(TUNNEL, &key, std::slice::from_ref(&next)).unwrap();
        for length in 0..stated.content.len() {
            assert_eq!(announced(TUNNEL, &key, &stated.content.slice(..length)), []);
        }
        assert_eq!(announced(TUNNEL, &key, &Bytes::from_static(&[0xff; 64])), []);
    }
}
