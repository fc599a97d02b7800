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
        // It stood by for the tunnel at the node that has it.
        let (round_trip, is_of_node, _asker) = (Duration::ZERO, true, None);
        Ok(Self { carrier, server, path, is_small, is_of_node, round_trip, address, key, _asker })
    }
}
