//! A carrier that another process has made and left.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Dialed;
use crate::client::left::CarrierNote;
use crate::driver::CarrierIo;

impl Dialed {
    /// Continues a carrier that another process has left, over its socket.
    pub(in crate::client) fn left(note: CarrierNote, socket: OwnedFd) -> io::Result<Self> {
        let CarrierNote { server, address, path, is_small, is_relayed, continuation, .. } = note;
        let key = continuation.peer().clone();
        let stream = TcpStream::from_std(socket.into())?;
        let mut carrier = CarrierIo::continued(stream, continuation)?;
        if is_relayed {
            carrier.set_relayed();
        }
        let (round_trip, _asker) = (Duration::ZERO, None);
        Ok(Self { carrier, server, path, is_small, round_trip, address, key, _asker })
    }
}
