//! The state of a session's receiving direction that was advertised to the peer.

use crate::seq::Seq;

/// An acknowledgement is sent at once when this part of the limit was delivered.
const ACK_PART: u64 = 4;

/// It is also sent at once when this much was delivered: the sender then uses the same little
/// memory again and again, which stays in its processor's cache.
const ACK_BYTES: u64 = 128 * 1024;

/// A session's place in the lists of acknowledgements without data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Listing {
    /// None.
    #[default]
    None,
    /// The sessions that wait for a packet to travel with.
    Delayed,
    /// The sessions whose acknowledgement is sent now. Each is listed once, however much the peer
    /// leaves unread.
    Now,
}

/// The acknowledgement and the limit that the peer was last told, and which of them are listed to
/// be sent.
#[derive(Debug)]
pub(super) struct Advertised {
    ack: Seq,
    /// The cost delivered since the acknowledgement was last sent.
    pending_credit: u64,
    ack_listing: Listing,
    limit: u64,
    is_limit_listed: bool,
}

impl Advertised {
    pub(super) fn new(ack: Seq, limit: u64) -> Self {
        Self { ack, pending_credit: 0, ack_listing: Listing::None, limit, is_limit_listed: false }
    }

    pub(super) fn ack(&self) -> Seq {
        self.ack
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Records that `ack` goes into a packet now.
    pub(super) fn set_ack(&mut self, ack: Seq) -> Seq {
        (self.ack, self.pending_credit) = (ack, 0);
        ack
    }

    /// Records that `limit` goes into a packet now.
    pub(super) fn set_limit(&mut self, limit: u64) -> u64 {
        self.limit = limit;
        limit
    }

    /// Records that the local socket took data of this cost.
    pub(super) fn add_credit(&mut self, cost: u64) {
        self.pending_credit += cost;
    }

    /// Lists an acknowledgement. Returns the list to which the session is to be added, if any: it
    /// is sent at once if the sender may be waiting for room.
    pub(super) fn list_ack(&mut self, limit: u64) -> Listing {
        let is_urgent = self.pending_credit >= (limit / ACK_PART).min(ACK_BYTES);
        if is_urgent {
            self.pending_credit = 0;
        }
        let listing = match (is_urgent, self.ack_listing) {
            (true, Listing::None | Listing::Delayed) => Listing::Now,
            (false, Listing::None) => Listing::Delayed,
            _ => return Listing::None,
        };
        self.ack_listing = listing;
        listing
    }

    /// Lists the limit. Returns whether the limit was not listed before.
    pub(super) fn list_limit(&mut self) -> bool {
        !std::mem::replace(&mut self.is_limit_listed, true)
    }

    /// Removes the session from the list of acknowledgements.
    pub(super) fn unlist_ack(&mut self) {
        self.ack_listing = Listing::None;
    }

    /// Removes the session from the list of limits.
    pub(super) fn unlist_limit(&mut self) {
        self.is_limit_listed = false;
    }
}
