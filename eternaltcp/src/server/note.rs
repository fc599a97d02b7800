//! The note about a server's tunnel in the store.

use eternaltcp_proto::{Epoch, Instance};
use eternaltcp_tls::PublicKey;

use super::registry::TunnelEntry;
use crate::store::{MalformedRecord, RecordReader, RecordWriter};

/// The server's data about a tunnel that are not part of the tunnel's state.
#[derive(Debug)]
pub(super) struct ServerNote {
    pub(super) user: PublicKey,
    pub(super) own: PublicKey,
    pub(super) instance: Instance,
    pub(super) from: std::net::IpAddr,
    pub(super) born: Epoch,
}

/// Returns the note of a tunnel as bytes.
pub(super) fn encode_note(entry: &TunnelEntry) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    writer.text(&entry.user.to_string());
    writer.text(&entry.own.to_string());
    let Instance { machine, boot, user, name } = &entry.instance;
    [machine, boot, user, name].into_iter().for_each(|text| writer.bytes(text.as_bytes()));
    writer.text(&entry.from().to_string());
    writer.u64(entry.born().0);
    writer.into_bytes()
}

impl ServerNote {
    pub(super) fn decode(note: &[u8]) -> Result<Self, MalformedRecord> {
        let mut reader = RecordReader::new(note);
        let mut key = || PublicKey::from_openssh(reader.text()?).map_err(|_| MalformedRecord);
        let (user, own) = (key()?, key()?);
        let mut text = || Ok(reader.text()?.into());
        let instance = Instance { machine: text()?, boot: text()?, user: text()?, name: text()? };
        let from = reader.text()?.parse().map_err(|_| MalformedRecord)?;
        Ok(Self { user, own, instance, from, born: Epoch(reader.u64()) })
    }
}

#[cfg(test)]
mod tests {
    use eternaltcp_tls::Identity;

    use super::*;
    use crate::driver::channel;

    #[test]
    fn a_note_says_whose_tunnel_it_is() {
        let key = || Identity::generate().unwrap().public_key();
        let text = |text: &str| text.into();
        let instance = Instance {
            machine: text("m"),
            boot: text(""),
            user: text("1000"),
            name: text("a name"),
        };
        let from = "192.0.2.7".parse().unwrap();
        let entry = TunnelEntry::new(channel(1).0, key(), key(), instance, from, Epoch(1 << 40));
        let note = encode_note(&entry);
        let found = ServerNote::decode(&note).unwrap();
        assert_eq!((&found.user, &found.own), (&entry.user, &entry.own));
        assert_eq!((&found.instance, found.from), (&entry.instance, from));
        assert_eq!(found.born, Epoch(1 << 40));
        for length in [0, 10, 150, note.len() - 20] {
            assert!(ServerNote::decode(&note[..length]).is_err(), "{length}");
        }
    }
}
