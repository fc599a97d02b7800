//! Counters of the packets of one direction.

use std::fmt;

/// Counts packets, except `bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PacketCounters {
    /// Arrived packets, whatever happened to them.
    pub(crate) packets: u64,
    /// Bytes of those packets.
    pub(crate) bytes: u64,
    /// Packets that left at the other end.
    pub(crate) delivered: u64,
    /// Lost by chance.
    pub(crate) lost: u64,
    /// Packets that skipped the delay by chance.
    pub(crate) reordered: u64,
    /// Dropped because the queue was full.
    pub(crate) queue_dropped: u64,
    /// Dropped because they were too large for the hole.
    pub(crate) hole_dropped: u64,
    /// Dropped in a silence.
    pub(crate) silenced: u64,
    /// Packets that the kernel rejected at the other end, for example because that device is down.
    pub(crate) refused: u64,
}

impl fmt::Display for PacketCounters {
    /// Formats a JSON object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("packets", self.packets),
            ("bytes", self.bytes),
            ("delivered", self.delivered),
            ("lost", self.lost),
            ("reordered", self.reordered),
            ("queue_dropped", self.queue_dropped),
            ("hole_dropped", self.hole_dropped),
            ("silenced", self.silenced),
            ("refused", self.refused),
        ];
        let fields = fields.map(|(name, value)| format!("\"{name}\":{value}"));
        write!(f, "{{{}}}", fields.join(","))
    }
}
