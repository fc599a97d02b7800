//! The packets by which a carrier begins to stand by, and by which it joins.

use std::time::Duration;

use crate::attach::{HelloError, VERSION, millis, read_versions, write_versions};
use crate::error::Violation;
use crate::id::{Epoch, TunnelId};
use crate::packet::Kind;
use crate::transmit::Transmit;
use crate::wire::{FieldWriter, Malformed, Reader};

/// The client's `standby` packet, with the tunnel for which its carrier stands by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandbyRequest {
    /// The newest version that the client supports.
    pub version: u32,
    /// The oldest version that the client supports.
    pub oldest: u32,
    /// The tunnel.
    pub tunnel: TunnelId,
}

impl StandbyRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        write_versions(self.version, self.oldest).raw(&self.tunnel.0).finish()
    }

    /// Reads a request. The content after the versions depends on the version.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, HelloError> {
        let mut reader = Reader::new(payload);
        let (version, oldest) = read_versions(&mut reader)?;
        let tunnel = TunnelId(reader.array()?);
        if version == VERSION {
            reader.end()?;
        }
        Ok(Self { version, oldest, tunnel })
    }
}

/// The server's `standby` packet: the carrier stands by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StandbyAnswer {
    /// The version that is used while it stands by.
    pub(super) version: u32,
    /// The length of silence after which the server ends it.
    pub(super) silence: Duration,
}

impl StandbyAnswer {
    pub(super) fn encode(&self) -> Vec<u8> {
        FieldWriter::default().u32(self.version).u64(millis(self.silence)).finish()
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let version = reader.u32()?;
        let silence = Duration::from_millis(reader.u64()?);
        reader.end()?;
        Ok(Self { version, silence })
    }
}

/// Creates the `join` packet, which is the same from both sides: the carrier joins the one that is
/// attached with this epoch.
pub(crate) fn join(epoch: Epoch) -> Transmit {
    Transmit::of_tunnel(Kind::Join, epoch.0.to_le_bytes().to_vec())
}

/// Returns the epoch that a `join` packet names.
pub(crate) fn read_join(payload: &[u8]) -> Result<Epoch, Violation> {
    let mut reader = Reader::new(payload);
    let epoch = reader.u64().map(Epoch).map_err(Violation::payload(Kind::Join))?;
    reader.end().map_err(Violation::payload(Kind::Join))?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> StandbyRequest {
        StandbyRequest { version: 1, oldest: 1, tunnel: TunnelId([9; 16]) }
    }

    #[test]
    fn messages_survive_encoding_and_truncated_ones_are_rejected() {
        let bytes = request().encode();
        assert_eq!(StandbyRequest::decode(&bytes), Ok(request()));
        let answer = StandbyAnswer { version: 1, silence: Duration::from_millis(45_001) };
        assert_eq!(StandbyAnswer::decode(&answer.encode()), Ok(answer));
        for end in 0..bytes.len() {
            assert!(StandbyRequest::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for end in 0..12 {
            assert!(StandbyAnswer::decode(&answer.encode()[..end]).is_err(), "cut at {end}");
        }
        assert!(StandbyRequest::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(StandbyAnswer::decode(&[&answer.encode()[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_later_version_that_speaks_this_one_too_is_understood() {
        let newer = StandbyRequest { version: 9, ..request() };
        let bytes = [&newer.encode()[..], b"what it adds"].concat();
        assert_eq!(StandbyRequest::decode(&bytes), Ok(newer));
        let unknown = StandbyRequest { version: 9, oldest: 7, ..request() };
        let error = HelloError::Version { version: 9, oldest: 7 };
        assert_eq!(StandbyRequest::decode(&unknown.encode()), Err(error));
    }
}
