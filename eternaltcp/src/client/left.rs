//! The description of a carrier that this process leaves to the next one.

use std::net::{IpAddr, SocketAddr};

use eternaltcp_tls::Continuation;

use super::path::NetworkPath;
#[cfg(target_os = "linux")]
use crate::store::{MalformedRecord, RecordReader, RecordWriter};

/// A carrier that a process has left to the next one: everything but its socket. Its server lets it
/// stand by for the tunnel, and nothing was sent on it since.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no store"))]
pub(super) struct CarrierNote {
    /// The kernel's number of its socket.
    pub(super) cookie: u64,
    /// Its server, by its position in the order of preference, and the address of that.
    pub(super) server: usize,
    pub(super) address: SocketAddr,
    pub(super) path: NetworkPath,
    /// Its segments are small.
    pub(super) is_small: bool,
    /// Its socket leads to a proxy, so the kernel's reports do not describe the path.
    pub(super) is_relayed: bool,
    /// The secrets of its TLS connection.
    pub(super) continuation: Continuation,
}

#[cfg(target_os = "linux")]
impl CarrierNote {
    /// Appends it to the note about a tunnel.
    pub(super) fn encode(&self, writer: &mut RecordWriter) {
        writer.u64(self.cookie);
        writer.u32(u32::try_from(self.server).unwrap_or(u32::MAX));
        writer.text(&self.address.to_string());
        writer.text(&self.path.source.to_string());
        writer.text(&self.path.interface);
        writer.u8(self.is_small.into());
        writer.u8(self.is_relayed.into());
        writer.bytes(&self.continuation.encode());
    }

    /// Appends that there is none: no socket has the number zero.
    pub(super) fn encode_none(writer: &mut RecordWriter) {
        writer.u64(0);
    }

    /// Reads what [`Self::encode`] has written. `None` if there is nothing.
    pub(super) fn decode(reader: &mut RecordReader<'_>) -> Result<Option<Self>, MalformedRecord> {
        let cookie = reader.u64();
        if cookie == 0 {
            return Ok(None);
        }
        let malformed = |_| MalformedRecord;
        let server = usize::try_from(reader.u32()).map_err(|_| MalformedRecord)?;
        let address = reader.text()?.parse().map_err(malformed)?;
        let source: IpAddr = reader.text()?.parse().map_err(malformed)?;
        let path = NetworkPath { source, interface: reader.text()?.to_owned() };
        let (is_small, is_relayed) = (reader.u8() > 0, reader.u8() > 0);
        let continuation = Continuation::decode(reader.bytes()?).ok_or(MalformedRecord)?;
        Ok(Some(Self { cookie, server, address, path, is_small, is_relayed, continuation }))
    }
}
