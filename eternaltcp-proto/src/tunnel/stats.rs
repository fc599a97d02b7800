//! The counters of a tunnel.

/// The counters of a tunnel since it was created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Attaches completed.
    pub attaches: u64,
    /// Attaches of a carrier that the tunnel already had.
    pub takeovers: u64,
    /// Packets sent again after an attach.
    pub replayed_packets: u64,
    /// Payload bytes of these packets.
    pub replayed_bytes: u64,
    /// Packets that were sent with an attach, or that came with one and were of use.
    pub early_packets: u64,
    /// Packets that arrived out of order, since joined carriers have no order among them.
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
    /// Sessions of the peer that were refused because there were too many.
    pub refused_full: u64,
    /// Sessions of the peer that were refused because they came too fast.
    pub refused_fast: u64,
    /// Carriers that could not join because there were too many.
    pub refused_joins: u64,
}
