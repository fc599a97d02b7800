//! The running digest of one direction of a session.

use twox_hash::XxHash3_64;

/// A running 64-bit digest over the data packets of one direction: each packet's payload is hashed
/// (XXH3, 64 bits) with the previous digest as the seed. Packet boundaries never change once
/// numbered, so both sides compute the same value at the same number. It protects against our own
/// mistakes, not against an attacker: TLS does that.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Digest(u64);

impl Digest {
    /// Creates the digest with this value on the wire.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the value on the wire.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the digest after one more data packet.
    #[must_use]
    pub fn after(self, payload: &[u8]) -> Self {
        Self(XxHash3_64::oneshot_with_seed(self.0, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_boundaries_and_repetition_change_it() {
        let of = |parts: &[&[u8]]| parts.iter().fold(Digest::default(), |d, p| d.after(p));
        assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"c", b"ab"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ab", b"ab"]));
    }

    #[test]
    fn the_value_is_the_one_of_the_specification() {
        assert_eq!(Digest::default().after(b"eternal").get(), 15_413_063_530_761_347_417);
    }
}
