//! A requested drain, which the next process continues.

use std::time::Duration;

#[cfg(target_os = "linux")]
use super::boot_time;

/// A drain, which the next process continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeptDrain {
    /// The time that is left for the drain, if it is limited.
    pub(crate) limit: Option<Duration>,
    /// A server asks its clients to move to another one, and takes their sessions until then.
    pub(crate) leaves: bool,
}

impl KeptDrain {
    /// Returns the drain of a process that ends at `until`, which is a time since the machine was
    /// started.
    #[cfg(target_os = "linux")]
    pub(super) fn until((until, leaves): (Option<Duration>, bool)) -> Self {
        Self { limit: until.map(|until| until.saturating_sub(boot_time())), leaves }
    }
}

/// Lets the next process know of a drain: that this one takes nothing new, and ends after the limit
/// at the latest. Call this before anybody learns of it.
pub(crate) fn keep_drain(drain: KeptDrain) {
    #[cfg(target_os = "linux")]
    {
        let until = drain.limit.map(|limit| boot_time().saturating_add(limit));
        crate::store::keep_drain(until, drain.leaves);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = drain;
}

/// Lets the next process know that this one takes nothing new, and ends after `limit` at the
/// latest. Call this before anybody learns of it.
pub(crate) fn keep_plain_drain(limit: Option<Duration>) {
    keep_drain(KeptDrain { limit, leaves: false });
}
