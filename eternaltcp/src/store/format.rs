//! What a program must know to read a store that another version has written.
//!
//! Each version reads the current format and the one before it. A program that finds a store goes on
//! with its format: so the program before it can always read the store again, and an upgrade can be
//! undone. A store is made in the current format.

/// The meaning of the fields. New fields do not change it.
pub(super) const CURRENT: u64 = 1;

/// The oldest format that this version reads.
const OLDEST: u64 = 1;

/// What this version knows of what must not be ignored: one bit for each thing.
const KNOWN: u64 = 0;

/// Why a store cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is of a version that this one does not know.
    #[error("the store has format {0}, and this version reads {OLDEST} to {CURRENT}: drain first")]
    Format(u64),
    /// It has something that must not be ignored, and that this version does not know.
    #[error("the store needs what this version does not know ({0:#x}): drain first")]
    Needs(u64),
    /// It is no store.
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
