//! The export of a tunnel's sessions, and their restoration.

use bytes::Bytes;

use super::Sessions;
use crate::id::SessionId;
use crate::session::{Opening, Session};
use crate::time::Time;
use crate::wire::{Malformed, Reader, Writer};

impl Sessions {
    /// Appends the numbers of the next and of the peer's last session.
    pub(in crate::tunnel) fn export_ids(&self, writer: Writer) -> Writer {
        let number = |id: Option<SessionId>| id.map_or(0, SessionId::get);
        writer.u32(number(self.next_id)).u32(number(self.peer_id))
    }

    /// Reads what [`Self::export_ids`] wrote.
    pub(in crate::tunnel) fn restore_ids(
        &mut self,
        reader: &mut Reader<'_>,
    ) -> Result<(), Malformed> {
        self.next_id = SessionId::new(reader.u32()?);
        self.peer_id = SessionId::new(reader.u32()?);
        Ok(())
    }

    /// Appends all sessions.
    pub(in crate::tunnel) fn export(&self, writer: Writer, buffers: &mut Vec<Bytes>) -> Writer {
        let mut writer = writer.count(self.table.len());
        for (id, session) in &self.table {
            writer = session.export(writer.u32(id.get()), buffers);
        }
        writer
    }

    /// Reads what [`Self::export`] wrote. `limit` is the session limit that the peer assumes.
    /// Returns the sessions that nobody has answered.
    pub(in crate::tunnel) fn restore(
        &mut self,
        limit: u64,
        reader: &mut Reader<'_>,
        buffers: &mut impl Iterator<Item = Bytes>,
    ) -> Result<Vec<SessionId>, Malformed> {
        let mut offered = Vec::new();
        for _ in 0..reader.u32()? {
            let id = SessionId::new(reader.u32()?).ok_or(Malformed)?;
            if self.table.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(Malformed);
            }
            let session = Session::restore(limit, reader, buffers)?;
            if session.send().is_reset_held_up() {
                self.resets.insert(id, Time::ZERO);
            }
            if matches!(session.opening(), Opening::Offered(_)) {
                offered.push(id);
            }
            self.shares.admit_anyway();
            self.insert(id, session);
            self.mark_dirty(id);
        }
        Ok(offered)
    }
}
