//! A requested drain, which the next process continues.

use std::time::Duration;

#[cfg(target_os = "linux")]
use super::boot_time;

/// A drain of an earlier process, which this one continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeptDrain {
    /// The part of its time that is left, if that is limited.
    pub(crate) limit: Option<Duration>,
}

impl KeptDrain {
    /// Returns the drain of a process that ends at `until`, which is a time since the machine was
    /// started.
    #[cfg(target_os = "linux")]
    pub(super) fn until(until: Option<Duration>) -> Self {
        Self { limit: until.map(|until| until.saturating_sub(boot_time())) }
    }
}

/// Lets the next process know that this one takes nothing new, and ends after `limit` at the latest.
/// To be called before anybody is told.
pub(crate) fn keep_drain(limit: Option<Duration>) {
    #[cfg(target_os = "linux")]
    crate::store::keep_drain(limit.map(|limit| boot_time().saturating_add(limit)));
    #[cfg(not(target_os = "linux"))]
    let _ = limit;
}
