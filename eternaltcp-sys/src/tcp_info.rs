//! The kernel's figures of a TCP connection, as far as the system provides them.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The kernel's figures for a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpInfo {
    /// The smoothed round-trip time.
    pub round_trip: Duration,
    /// Its mean deviation.
    pub variance: Duration,
    /// The shortest round-trip time of the last minutes; `None` before Linux 4.6, and without a
    /// measurement.
    pub min_round_trip: Option<Duration>,
    /// Bytes that have arrived: those acknowledged, and roughly those beyond a gap that is not yet
    /// filled. `None` before Linux 4.1.
    pub arrived: Option<u64>,
    /// Segments that were sent and not acknowledged.
    pub unacknowledged: u32,
    /// Bytes that were written and never sent; 0 before Linux 4.6.
    pub unsent: u32,
    /// The window that the peer advertises, in bytes; `None` before Linux 5.16.
    pub window: Option<u32>,
    /// The number of consecutive times that the retransmission timeout was doubled.
    pub backoff: u8,
    /// Unanswered probes of a closed window, or unanswered keep-alives.
    pub probes: u8,
    /// Time since the last acknowledgement was received.
    pub last_ack: Duration,
    /// Time since data were last sent.
    pub last_data_sent: Duration,
}

/// The number of bytes that a program has moved over a TCP connection, by the kernel's count. They
/// are ranges, because the other end may read and write meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MovedBytes {
    /// The bytes that it has read, plus one if the end of the stream was received.
    pub read: RangeInclusive<u64>,
    /// The bytes that it has written, plus up to two for the beginning and the end of the
    /// connection.
    pub written: RangeInclusive<u64>,
}

/// The amount of data that was received and read on a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadProgress {
    /// Bytes that were received in order and do not wait to be read, plus one if the end of the
    /// stream was received.
    pub count: u64,
    /// The connection is closed in both directions, or was reset.
    pub is_closed: bool,
}
