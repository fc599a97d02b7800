//! Identifiers: the two sides, their sessions, tunnels and epochs.

use std::fmt;
use std::num::NonZeroU32;

/// The side of the tunnel that a state machine implements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// cproxy: it makes the carriers and requests the attach.
    Client,
    /// sproxy: it answers.
    Server,
}

/// A session's number in its tunnel. Each side opens sessions in its own half, the client with odd
/// and the server with even numbers. Numbers rise and none is used twice. On the wire, 0 is the
/// tunnel itself and therefore not a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(NonZeroU32);

impl SessionId {
    /// Creates the session id with this number. Returns `None` for 0, the tunnel itself.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Returns the number on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the side in whose half the number lies: the one that opened the session.
    #[must_use]
    pub const fn opener(self) -> Side {
        if self.get() % 2 == 1 { Side::Client } else { Side::Server }
    }

    /// Returns the first number of a side's half.
    #[must_use]
    pub const fn first_of(side: Side) -> Self {
        let value = match side {
            Side::Client => NonZeroU32::MIN,
            Side::Server => NonZeroU32::MIN.saturating_add(1),
        };
        Self(value)
    }

    /// Returns the next number of the same half, or `None` when the half is used up.
    #[must_use]
    pub const fn successor(self) -> Option<Self> {
        match self.0.checked_add(2) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// A tunnel's name: 128 random bits that the server draws. It travels only inside TLS, and its
/// `Debug` form is shortened so that a log cannot leak it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId(pub [u8; 16]);

impl fmt::Debug for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Writes the first four bytes in hex: enough to tell tunnels apart in a log.
impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The number of an attach. It only rises, and the highest one wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Epoch(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_own_half() {
        assert_eq!(SessionId::first_of(Side::Client).opener(), Side::Client);
        assert_eq!(SessionId::first_of(Side::Server).opener(), Side::Server);
        let next = SessionId::first_of(Side::Server).successor().unwrap();
        assert_eq!((next.get(), next.opener()), (4, Side::Server));
    }

    #[test]
    fn a_half_ends_and_does_not_wrap() {
        assert_eq!(SessionId::new(u32::MAX).unwrap().successor(), None);
        assert_eq!(SessionId::new(u32::MAX - 1).unwrap().successor(), None);
    }

    #[test]
    fn a_tunnel_id_is_cut_short_in_logs() {
        assert_eq!(format!("{:?}", TunnelId([0xab; 16])), "abababab");
    }
}
