//! The key of a tunnel, and the note with which another process continues the tunnel.

use std::fmt;

use eternaltcp_tls::{Identity, IdentityError, PublicKey};
use zeroize::Zeroizing;

use super::left::CarrierNote;
use crate::route::Node;
#[cfg(target_os = "linux")]
use crate::store::{MalformedRecord, RecordReader, RecordWriter};

/// The tunnel's own key, which exists in memory alone.
#[derive(Debug)]
pub(super) struct TunnelKey {
    pub(super) identity: Identity,
    seed: KeySeed,
}

/// The secret from which a key is made. `Debug` does not show it.
pub(super) struct KeySeed(Zeroizing<[u8; 32]>);

impl fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySeed")
    }
}

/// The client's data about a tunnel that are not part of the tunnel's state.
#[derive(Debug)]
pub(super) struct ClientNote {
    pub(super) key: TunnelKey,
    /// The key of the server that has the tunnel, if one has it.
    pub(super) server: Option<PublicKey>,
    /// A carrier that the previous process has left.
    pub(super) carrier: Option<CarrierNote>,
    /// The node that has the tunnel, if its server is one of several.
    pub(super) node: Option<Node>,
    /// The tunnel's number among those of the client.
    pub(super) generation: u32,
}

/// A tunnel's place among those of a program.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct TunnelPlace<'a> {
    /// The name of the client's server, if the program has several.
    pub(super) name: Option<&'a str>,
    /// The tunnel's number among those of the client.
    pub(super) generation: u32,
}

impl TunnelKey {
    /// Generates a key.
    ///
    /// # Errors
    /// [`IdentityError::Random`] if the system has no randomness.
    pub(super) fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| IdentityError::Random)?;
        Self::from_seed(KeySeed(seed))
    }

    fn from_seed(seed: KeySeed) -> Result<Self, IdentityError> {
        Ok(Self { identity: Identity::from_seed(&seed.0)?, seed })
    }

    /// Returns the secret from which the key is made.
    pub(super) fn into_seed(self) -> KeySeed {
        self.seed
    }
}

impl ClientNote {
    /// Returns the note of a new tunnel.
    ///
    /// # Errors
    /// [`IdentityError::Random`] if the system has no randomness.
    pub(super) fn generate() -> Result<Self, IdentityError> {
        let key = TunnelKey::generate()?;
        Ok(Self { key, server: None, carrier: None, node: None, generation: 0 })
    }
}

/// Encodes a note.
#[cfg(target_os = "linux")]
pub(super) fn encode_note(
    seed: &KeySeed,
    server: Option<&PublicKey>,
    carrier: Option<&CarrierNote>,
    node: Option<&Node>,
    TunnelPlace { name, generation }: TunnelPlace<'_>,
) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    writer.array(*seed.0);
    writer.text(&server.map(ToString::to_string).unwrap_or_default());
    match carrier {
        Some(carrier) => carrier.encode(&mut writer),
        None => CarrierNote::encode_none(&mut writer),
    }
    // An earlier version does not read this.
    if node.is_some() || name.is_some() || generation > 0 {
        writer.bytes(&node.map(Node::content).unwrap_or_default());
    }
    if name.is_some() || generation > 0 {
        writer.text(name.unwrap_or_default());
    }
    if generation > 0 {
        writer.u32(generation);
    }
    writer.into_bytes()
}

/// Returns the name of the client's server in a note, if it has one.
#[cfg(target_os = "linux")]
pub(super) fn name_in_note(note: &[u8]) -> Option<String> {
    let mut reader = RecordReader::new(note);
    drop(Zeroizing::new(reader.array::<32>()));
    reader.text().ok()?;
    // The name is wanted even if the carrier cannot be decoded.
    let _ = CarrierNote::decode(&mut reader);
    reader.bytes().ok()?;
    reader.text().ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(target_os = "linux")]
impl ClientNote {
    /// Decodes the note that [`encode_note`] has written.
    pub(super) fn decode(note: &[u8]) -> Result<Self, MalformedRecord> {
        let mut reader = RecordReader::new(note);
        let seed = KeySeed(Zeroizing::new(reader.array()));
        let server = Some(reader.text()?).filter(|server| !server.is_empty());
        let server =
            server.map(PublicKey::from_openssh).transpose().map_err(|_| MalformedRecord)?;
        let key = TunnelKey::from_seed(seed).map_err(|_| MalformedRecord)?;
        // Without the carrier, another one is made.
        let carrier = CarrierNote::decode(&mut reader);
        // An earlier version wrote no node. A note whose carrier is damaged counts as one without
        // node and name.
        let node = carrier.is_ok().then(|| reader.bytes().ok().and_then(Node::announced)).flatten();
        let has_name = carrier.is_ok() && reader.text().is_ok();
        let generation = if has_name { reader.u32() } else { 0 };
        Ok(Self { key, server, carrier: carrier.unwrap_or_default(), node, generation })
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_the_same_key_and_server() {
        let key = TunnelKey::generate().unwrap();
        let public = key.identity.public_key();
        let server = TunnelKey::generate().unwrap().identity.public_key();
        let seed = key.into_seed();
        let alone = TunnelPlace::default();
        for server in [None, Some(&server)] {
            let note = ClientNote::decode(&encode_note(&seed, server, None, None, alone)).unwrap();
            assert_eq!(note.key.identity.public_key(), public);
            assert_eq!((note.server.as_ref(), note.node), (server, None));
        }
        let mut node = Node::new("node-1.etcp".parse().unwrap());
        node.addresses = vec!["192.0.2.1:7".parse().unwrap()];
        let note = encode_note(&seed, None, None, Some(&node), alone);
        assert_eq!(ClientNote::decode(&note).unwrap().node, Some(node));
        // An earlier version stored the seed and an empty text.
        assert_eq!(ClientNote::decode(&note[..36]).unwrap().node, None);
        assert!(ClientNote::decode(&[7; 40]).is_err());
    }

    #[test]
    fn a_note_has_the_name_of_the_server_if_there_are_several() {
        let seed = TunnelKey::generate().unwrap().into_seed();
        let server = TunnelKey::generate().unwrap().identity.public_key();
        let (alone, office) =
            (TunnelPlace::default(), TunnelPlace { name: Some("office"), generation: 0 });
        for server in [None, Some(&server)] {
            let named = encode_note(&seed, server, None, None, office);
            assert_eq!(name_in_note(&named).as_deref(), Some("office"));
            assert!(ClientNote::decode(&named).unwrap().carrier.is_none());
            assert_eq!(name_in_note(&encode_note(&seed, server, None, None, alone)), None);
            let node = Node::new("node-1.etcp".parse().unwrap());
            let both = encode_note(&seed, server, None, Some(&node), office);
            assert_eq!(name_in_note(&both).as_deref(), Some("office"));
            assert_eq!(ClientNote::decode(&both).unwrap().node, Some(node.clone()));
            assert_eq!(name_in_note(&encode_note(&seed, server, None, Some(&node), alone)), None);
        }
    }

    #[test]
    fn a_note_has_the_number_of_a_later_tunnel() {
        let seed = TunnelKey::generate().unwrap().into_seed();
        let node = Node::new("node-1.etcp".parse().unwrap());
        for (name, node) in [(None, None), (Some("office"), None), (None, Some(&node))] {
            let note = encode_note(&seed, None, None, node, TunnelPlace { name, generation: 7 });
            assert_eq!(name_in_note(&note).as_deref(), name);
            let read = ClientNote::decode(&note).unwrap();
            assert_eq!((read.node.as_ref(), read.generation), (node, 7));
            let first = encode_note(&seed, None, None, node, TunnelPlace { name, generation: 0 });
            assert_eq!(ClientNote::decode(&first).unwrap().generation, 0);
        }
    }

    #[test]
    fn a_damaged_carrier_does_not_damage_the_rest_of_the_note() {
        let key = TunnelKey::generate().unwrap();
        let public = key.identity.public_key();
        let note = encode_note(&key.into_seed(), None, None, None, TunnelPlace::default());
        // Without the zero that says that there is no carrier.
        let note = &note[..note.len() - 8];
        let without = ClientNote::decode(&[note, &[0; 8]].concat()).unwrap();
        for length in [1, 8, 12, 100] {
            let damaged = [note, &vec![7; length]].concat();
            let read = ClientNote::decode(&damaged).unwrap();
            assert_eq!(read.key.identity.public_key(), public);
            assert!(read.carrier.is_none() && without.carrier.is_none(), "{length}");
        }
    }
}
