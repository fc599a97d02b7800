//! The content of an attach: the client's request and the server's answer.

use std::time::Duration;

use bytes::Bytes;

use crate::id::{Epoch, TunnelId};
use crate::packet::{Header, Kind};
use crate::reason::{Refusal, RefusalCode};
use crate::text::CleanText;
use crate::wire::{FieldWriter, Malformed, Reader};

/// The protocol version of this code.
pub const VERSION: u32 = 1;

/// The oldest version that this code still supports.
pub const OLDEST_VERSION: u32 = 1;

/// The feature of a server that lets carriers stand by for a tunnel.
pub const FEATURE_STANDBY: u64 = 1;

/// The feature of a server that accepts data together with an attach.
pub(crate) const FEATURE_EARLY: u64 = 2;

/// The feature of a server that lets carriers join the attached one.
pub(crate) const FEATURE_JOIN: u64 = 4;

/// The feature of a side whose joined carriers outlive the lead, so that one of them can take over.
pub const FEATURE_TAKEOVER: u64 = 8;

/// The feature of a client that understands announcements.
pub(crate) const FEATURE_ANNOUNCE: u64 = 16;

/// The feature of a side that may be quiet on an idle carrier.
pub const FEATURE_QUIET: u64 = 32;

/// The features that this code supports.
pub(crate) const FEATURES: u64 = FEATURE_STANDBY
    | FEATURE_EARLY
    | FEATURE_JOIN
    | FEATURE_TAKEOVER
    | FEATURE_ANNOUNCE
    | FEATURE_QUIET;

/// The names of the features that this code has, in the order of their bits.
pub const FEATURE_NAMES: [&str; 6] =
    ["standby", "early replay", "joined carriers", "takeover", "announcements", "quiet"];

/// The maximum number of payload bytes of all early packets. With the rest of the request they fit
/// into what a new TCP connection may send at once (RFC 6928).
pub(crate) const EARLY_BYTES: usize = 8 * 1024;

/// The maximum number of early packets of an attach.
pub(crate) const EARLY_PACKETS: usize = 64;

/// Returns whether a packet may come early.
pub(crate) fn may_be_early(header: &Header) -> bool {
    header.kind == Kind::Data && header.session != 0
}

/// The first bytes of a request, by which the server detects a stray protocol.
const MAGIC: [u8; 4] = *b"etcp";

/// The maximum number of bytes of an enrolled key, and of each part of an instance's name.
const MAX_FIELD: usize = 300;

/// A cproxy's name. A cproxy that restarts uses it to end the tunnel it left behind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instance {
    /// The machine, by an id that stays the same over restarts.
    pub machine: CleanText,
    /// The machine's current boot.
    pub boot: CleanText,
    /// The user.
    pub user: CleanText,
    /// The listen address, or the name that the user gave.
    pub name: CleanText,
}

/// The tunnel to which the client wants its carrier bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Intent {
    /// A new tunnel.
    New {
        /// The tunnel's own key, which later carriers prove. Only the driver interprets the bytes.
        enrol: Bytes,
        /// The client that asks.
        instance: Instance,
    },
    /// An existing tunnel.
    Resume {
        /// Its id.
        tunnel: TunnelId,
    },
}

/// The settings that each side states at every attach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttachSettings {
    /// The length of silence after which this side gives up a carrier.
    pub dead_after: Duration,
    /// The units that this side holds for the whole tunnel.
    pub tunnel_limit: u64,
    /// The units that this side holds for a session at its start.
    pub session_limit: u64,
    /// The time for which this side keeps a detached tunnel.
    pub keep_detached: Duration,
}

impl AttachSettings {
    fn write(&self, writer: FieldWriter) -> FieldWriter {
        writer
            .u64(millis(self.dead_after))
            .u64(self.tunnel_limit)
            .u64(self.session_limit)
            .u64(millis(self.keep_detached))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            dead_after: Duration::from_millis(reader.u64()?),
            tunnel_limit: reader.u64()?,
            session_limit: reader.u64()?,
            keep_detached: Duration::from_millis(reader.u64()?),
        })
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The client's `attach` packet: everything a server needs to decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The newest version that the client supports.
    pub version: u32,
    /// The oldest version that the client supports.
    pub oldest: u32,
    /// The client's features. Unknown bits are ignored.
    pub features: u64,
    /// The client's request.
    pub intent: Intent,
    /// The attach's number.
    pub epoch: Epoch,
    /// The client's settings.
    pub settings: AttachSettings,
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let writer = write_versions(self.version, self.oldest).u64(self.features).u64(self.epoch.0);
        let writer = self.settings.write(writer);
        match &self.intent {
            Intent::New { enrol, instance } => writer
                .u8(0)
                .counted(enrol)
                .counted(instance.machine.as_bytes())
                .counted(instance.boot.as_bytes())
                .counted(instance.user.as_bytes())
                .counted(instance.name.as_bytes()),
            Intent::Resume { tunnel } => writer.u8(1).raw(&tunnel.0),
        }
        .finish()
    }

    /// Reads a request. The version is checked before anything behind it is read, so that a later
    /// version may change the layout of the rest.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, HelloError> {
        let mut reader = Reader::new(payload);
        let (version, oldest) = read_versions(&mut reader)?;
        let features = reader.u64()?;
        let epoch = Epoch(reader.u64()?);
        let settings = AttachSettings::read(&mut reader)?;
        let intent = read_intent(&mut reader)?;
        if version == VERSION {
            reader.end()?;
        }
        Ok(Self { version, oldest, features, intent, epoch, settings })
    }
}

/// Writes the start of a request: the magic and the client's newest and oldest version.
pub(crate) fn write_versions(version: u32, oldest: u32) -> FieldWriter {
    FieldWriter::default().raw(&MAGIC).u32(version).u32(oldest)
}

/// Returns the client's newest and oldest version, if this code supports one of them.
pub(crate) fn read_versions(reader: &mut Reader<'_>) -> Result<(u32, u32), HelloError> {
    if reader.array()? != MAGIC {
        return Err(HelloError::Malformed(Malformed));
    }
    let (version, oldest) = (reader.u32()?, reader.u32()?);
    if oldest > VERSION || version < OLDEST_VERSION {
        return Err(HelloError::Version { version, oldest });
    }
    Ok((version, oldest))
}

fn read_intent(reader: &mut Reader<'_>) -> Result<Intent, Malformed> {
    match reader.u8()? {
        0 => {
            let enrol = Bytes::copy_from_slice(reader.counted()?);
            let instance = Instance {
                machine: reader.text()?,
                boot: reader.text()?,
                user: reader.text()?,
                name: reader.text()?,
            };
            let parts = [&instance.machine, &instance.boot, &instance.user, &instance.name];
            if enrol.len() > MAX_FIELD || parts.iter().any(|part| part.len() > MAX_FIELD) {
                return Err(Malformed);
            }
            Ok(Intent::New { enrol, instance })
        }
        1 => Ok(Intent::Resume { tunnel: TunnelId(reader.array()?) }),
        _ => Err(Malformed),
    }
}

/// The reason why an `attach` or a `standby` packet cannot be answered with a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    /// It is not a request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is of a version that this code does not support.
    #[error("the peer speaks versions {oldest} to {version}")]
    Version {
        /// The peer's newest version.
        version: u32,
        /// The peer's oldest version.
        oldest: u32,
    },
}

impl HelloError {
    /// Returns the refusal to send to the peer, or `None` if the peer would not understand it
    /// either.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let Self::Version { version, .. } = *self else { return None };
        let who = if version < OLDEST_VERSION { "client" } else { "server" };
        let advice =
            format!("upgrade the {who}: this server speaks versions {OLDEST_VERSION} to {VERSION}");
        Some(Refusal::last(RefusalCode::Version, advice))
    }
}

/// The server's `attached` packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AttachAnswer {
    /// The version that both use.
    pub(crate) version: u32,
    /// The features that both sides have.
    pub(crate) features: u64,
    /// The tunnel.
    pub(crate) tunnel: TunnelId,
    /// The epoch of the request that this answers.
    pub(crate) epoch: Epoch,
    /// The server's settings.
    pub(crate) settings: AttachSettings,
}

impl AttachAnswer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let writer = FieldWriter::default()
            .u32(self.version)
            .u64(self.features)
            .raw(&self.tunnel.0)
            .u64(self.epoch.0);
        self.settings.write(writer).finish()
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let answer = Self {
            version: reader.u32()?,
            features: reader.u64()?,
            tunnel: TunnelId(reader.array()?),
            epoch: Epoch(reader.u64()?),
            settings: AttachSettings::read(&mut reader)?,
        };
        reader.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_name() {
        assert_eq!(FEATURES, (1 << FEATURE_NAMES.len()) - 1);
    }

    fn settings() -> AttachSettings {
        AttachSettings {
            dead_after: Duration::from_secs(3),
            tunnel_limit: 1 << 26,
            session_limit: 1 << 18,
            keep_detached: Duration::from_secs(7 * 86_400),
        }
    }

    fn hello(intent: Intent) -> Hello {
        Hello {
            version: VERSION,
            oldest: OLDEST_VERSION,
            features: 0,
            intent,
            epoch: Epoch(u64::MAX),
            settings: settings(),
        }
    }

    fn new_intent() -> Intent {
        let part = || CleanText::from("x".repeat(MAX_FIELD));
        let instance = Instance { machine: part(), boot: part(), user: part(), name: part() };
        Intent::New { enrol: vec![7; MAX_FIELD].into(), instance }
    }

    #[test]
    fn requests_survive_encoding_and_the_largest_fits_its_packet() {
        for intent in [new_intent(), Intent::Resume { tunnel: TunnelId([9; 16]) }] {
            let bytes = hello(intent.clone()).encode();
            assert!(bytes.len() <= Kind::Attach.payload_range().1);
            assert_eq!(Hello::decode(&bytes), Ok(hello(intent)));
        }
    }

    /// [TEXT-1]
    #[test]
    fn the_name_of_a_client_is_cleaned_when_it_is_read() {
        let name = |text: &str| FieldWriter::default().counted(text.as_bytes()).finish();
        let enrol = name("key");
        let parts = ["m\x1b[31m", "b\n", "u\u{202e}", "n\u{85}\r"].map(name);
        let payload = [&[0][..], &enrol, &parts.concat()].concat();
        let Ok(Intent::New { instance, .. }) = read_intent(&mut Reader::new(&payload)) else {
            panic!("it is a request");
        };
        let Instance { machine, boot, user, name } = instance;
        assert_eq!([machine, boot, user, name].map(String::from), ["m [31m", "b ", "u ", "n  "]);
    }

    #[test]
    fn no_truncated_request_is_accepted() {
        let bytes = hello(new_intent()).encode();
        for end in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn an_unknown_version_is_told_what_to_upgrade() {
        let mut newer = hello(Intent::Resume { tunnel: TunnelId([0; 16]) });
        (newer.version, newer.oldest) = (9, 7);
        let error = Hello::decode(&newer.encode()).unwrap_err();
        assert_eq!(error, HelloError::Version { version: 9, oldest: 7 });
        assert!(error.refusal().unwrap().advice.starts_with("upgrade the server"));
        (newer.version, newer.oldest) = (0, 0);
        let error = Hello::decode(&newer.encode()).unwrap_err();
        assert!(error.refusal().unwrap().advice.starts_with("upgrade the client"));
    }

    #[test]
    fn a_newer_client_that_still_speaks_this_version_is_understood() {
        let mut newer = hello(Intent::Resume { tunnel: TunnelId([0; 16]) });
        newer.version = 9;
        let mut bytes = newer.encode();
        bytes.extend_from_slice(b"what a later version adds");
        assert_eq!(Hello::decode(&bytes), Ok(newer));
    }

    #[test]
    fn answers_come_back() {
        let answer = AttachAnswer {
            version: 1,
            features: 0,
            tunnel: TunnelId([3; 16]),
            epoch: Epoch(4),
            settings: settings(),
        };
        assert_eq!(AttachAnswer::decode(&answer.encode()), Ok(answer));
    }
}
