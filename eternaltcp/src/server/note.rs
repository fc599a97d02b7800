//! The note about a server's tunnel in the store.

use eternaltcp_proto::{Epoch, Instance};
use eternaltcp_tls::PublicKey;

use super::keys::{KeptAnswer, MAX_KEPT_ANSWERS};
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
    /// The answers of commands about the user's key.
    pub(super) answers: Vec<KeptAnswer>,
}

/// Returns the note of a tunnel as bytes.
pub(super) fn encode_note(entry: &TunnelEntry, answers: &[KeptAnswer]) -> Vec<u8> {
    let mut writer = RecordWriter::default();
    writer.text(&entry.user.to_string());
    writer.text(&entry.own.to_string());
    let Instance { machine, boot, user, name } = &entry.instance;
    [machine, boot, user, name].into_iter().for_each(|text| writer.bytes(text.as_bytes()));
    writer.text(&entry.from().to_string());
    writer.u64(entry.born().0);
    writer.u32(u32::try_from(answers.len()).unwrap_or(u32::MAX));
    for KeptAnswer { command, lines } in answers {
        writer.text(command);
        writer.text(lines);
    }
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
        let born = Epoch(reader.u64());
        let mut answers = Vec::new();
        let count = (reader.u32() as usize).min(MAX_KEPT_ANSWERS);
        for _ in 0..count {
            let (command, lines) = (reader.text()?.to_owned(), reader.text()?.to_owned());
            answers.push(KeptAnswer { command, lines });
        }
        Ok(Self { user, own, instance, from, born, answers })
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
        let answers =
            vec![KeptAnswer { command: "root\0/bin/keys\0%f".to_owned(), lines: "a\n".to_owned() }];
        let note = encode_note(&entry, &answers);
        let found = ServerNote::decode(&note).unwrap();
        assert_eq!((&found.user, &found.own), (&entry.user, &entry.own));
        assert_eq!((&found.instance, found.from), (&entry.instance, from));
        assert_eq!((found.born, found.answers), (Epoch(1 << 40), answers));
        let plain = encode_note(&entry, &[]);
        let older = ServerNote::decode(&plain[..plain.len() - 4]).unwrap();
        assert!(older.answers.is_empty(), "an earlier version kept none");
        for length in [0, 10, 150, note.len() - 20] {
            assert!(ServerNote::decode(&note[..length]).is_err(), "{length}");
        }
    }
}
