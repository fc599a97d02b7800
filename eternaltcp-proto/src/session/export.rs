//! The export of a session, and its restoration.

use bytes::Bytes;

use super::{Advertised, Opening, Session};
use crate::reason::Reset;
use crate::receive_queue::ReceiveQueue;
use crate::scheduler::{Lane, Recent};
use crate::send_queue::SendQueue;
use crate::wire::{Malformed, Reader, Writer};

impl Session {
    /// Appends the numbers to `writer`, and the payload to `buffers`. State that belongs to a
    /// carrier is left out.
    pub(crate) fn export(&self, writer: Writer, buffers: &mut Vec<Bytes>) -> Writer {
        let Self { send, receive, opening, abort, lane: _, recent: _, advertised: _, is_dirty: _ } =
            self;
        let writer = match opening {
            Opening::Asked => writer.u8(0),
            Opening::Offered(target) => writer.u8(1).counted(target),
            Opening::Established => writer.u8(2),
        };
        let writer = send.export(Reset::export(abort.as_ref(), writer), buffers);
        receive.export(writer, buffers)
    }

    /// Creates a session from what [`Self::export`] wrote. `limit` is the session limit that the
    /// peer assumes before it is told another.
    pub(crate) fn restore(
        limit: u64,
        reader: &mut Reader<'_>,
        buffers: &mut impl Iterator<Item = Bytes>,
    ) -> Result<Self, Malformed> {
        let opening = match reader.u8()? {
            0 => Opening::Asked,
            1 => Opening::Offered(Bytes::copy_from_slice(reader.counted()?)),
            2 => Opening::Established,
            _ => return Err(Malformed),
        };
        let abort = Reset::restore(reader)?;
        let send = SendQueue::restore(reader, buffers)?;
        let receive = ReceiveQueue::restore(reader, buffers)?;
        let advertised = Advertised::new(receive.delivered(), limit);
        let (lane, recent, is_dirty) = (Lane::Idle, Recent::default(), false);
        Ok(Self { send, receive, opening, abort, lane, recent, advertised, is_dirty })
    }
}
