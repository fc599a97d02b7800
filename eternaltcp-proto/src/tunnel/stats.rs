//! What a tunnel counts.

/// What a tunnel did since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Attaches completed.
    pub attaches: u64,
    /// Packets sent again after an attach.
    pub replayed_packets: u64,
    /// Their payload bytes.
    pub replayed_bytes: u64,
    /// Packets that went along with an attach, or that came with one and were
    /// of use.
    pub early_packets: u64,
    /// Packets that came before their turn, as joined carriers have no order among
    /// them.
    pub reordered: u64,
    /// Payload bytes sent for the first time.
    pub sent_bytes: u64,
    /// Acknowledgements that freed something.
    pub acknowledged: u64,
    /// Payload bytes delivered to local sockets.
    pub delivered_bytes: u64,
    /// Sessions opened by either side.
    pub sessions: u64,
    /// Sessions that could not be resumed.
    pub unresumed: u64,
    /// Sessions of the peer that were refused as there were too many.
    pub refused_full: u64,
    /// Sessions of the peer that were refused as they came too fast.
    pub refused_fast: u64,
    /// Carriers that could not join as there were too many.
    pub refused_joins: u64,
}
