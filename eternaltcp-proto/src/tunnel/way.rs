//! Which of several carriers a packet takes.

/// Which way a packet takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// The attached carrier: everything may.
    Attached,
    /// The attached carrier, while joined ones carry what they may.
    AttachedBeside,
    /// A joined one: bulk.
    Joined,
}
