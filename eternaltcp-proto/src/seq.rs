//! Packet numbers.

use std::fmt;

/// The number of a packet in its session and direction, counted from 0 and wrapping after 2³². It
/// has no order: with wrapping numbers "less than" is not transitive. Use the distance from a known
/// base instead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(u32);

impl Seq {
    /// Creates the number with this value on the wire.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Returns the value on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// Returns the number `count` packets after this one.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Returns the number `count` packets before this one.
    #[must_use]
    pub const fn minus(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// Returns how many packets lie between `base` and this number, going up.
    pub(crate) const fn distance_from(self, base: Self) -> u32 {
        self.0.wrapping_sub(base.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_without_losing_their_distance() {
        let base = Seq::new(u32::MAX - 1);
        let later = base.plus(5);
        assert_eq!(later.get(), 3);
        assert_eq!(later.distance_from(base), 5);
        assert_eq!(later.minus(5), base);
        assert_eq!(Seq::new(u32::MAX).next(), Seq::new(0));
    }
}
