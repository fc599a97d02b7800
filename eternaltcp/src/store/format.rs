//! The versions of the store's format.
//!
//! Each version reads the current format and the previous one. A program that takes over a store
//! keeps its format, so the previous program can read the store again and an upgrade can be undone.
//! A new store has the current format.

/// The current format. New fields do not change it.
pub(super) const CURRENT: u64 = 1;

/// The oldest format that this version reads.
const OLDEST: u64 = 1;

/// The mandatory extensions that this version knows, one bit each.
const KNOWN: u64 = 0;

/// The reason why a store cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// The format is unknown to this version.
    #[error("the store has format {0}, and this version reads {OLDEST} to {CURRENT}: drain first")]
    Format(u64),
    /// The store needs an extension that this version does not know.
    #[error("the store needs extensions that this version does not know ({0:#x}): drain first")]
    Needs(u64),
    /// The memory contains no store.
    #[error("the store's header is damaged")]
    Damaged,
}

/// Checks whether this version can read a store.
pub(super) fn check(format: u64, needs: u64) -> Result<(), Unreadable> {
    if !(OLDEST..=CURRENT).contains(&format) {
        return Err(Unreadable::Format(format));
    }
    match needs & !KNOWN {
        0 => Ok(()),
        unknown => Err(Unreadable::Needs(unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_needs_is_refused_with_its_name() {
        assert_eq!(check(CURRENT, 0), Ok(()));
        assert_eq!(check(CURRENT + 1, 0), Err(Unreadable::Format(CURRENT + 1)));
        assert_eq!(check(0, 0), Err(Unreadable::Format(0)));
        assert_eq!(check(CURRENT, 4), Err(Unreadable::Needs(4)));
    }
}
