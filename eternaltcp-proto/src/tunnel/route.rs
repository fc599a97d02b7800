//! The carrier, among several, that a packet takes.

/// The carrier that asks for a packet, and what it may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// The attached carrier, which may send everything.
    Attached,
    /// The attached carrier, while bulk is left to joined ones.
    AttachedWithoutBulk,
    /// A joined carrier, which may send only bulk.
    Joined,
}
