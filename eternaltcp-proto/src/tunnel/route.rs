//! Which of several carriers a packet takes.

/// The carrier that asks for a packet, and what it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// The attached carrier, which may have everything.
    Attached,
    /// The attached carrier, while bulk is left to joined ones.
    AttachedWithoutBulk,
    /// A joined carrier, which may have bulk only.
    Joined,
}
