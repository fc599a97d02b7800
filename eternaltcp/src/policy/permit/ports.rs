//! The ports of a permit, and of a key's options.

use std::fmt;

use crate::address::{is_digits, parse_port};

/// A range of ports, including both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    pub(in crate::policy) const ALL: Self = Self { low: 1, high: u16::MAX };

    /// Ports that need no privilege.
    pub(super) const UNPRIVILEGED: Self = Self { low: 1024, high: u16::MAX };

    /// Returns the range of only `port`.
    pub(super) fn exactly(port: u16) -> Self {
        Self { low: port, high: port }
    }

    /// Parses `port`, `low-high` or `*`; a port may be the name of a service, which may contain a
    /// hyphen.
    pub(in crate::policy) fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::ALL);
        }
        let range = text.split_once('-').filter(|(low, _)| is_digits(low));
        let (low, high) = range.unwrap_or((text, text));
        let ports = Self { low: parse_port(low)?, high: parse_port(high)? };
        if ports.low > ports.high {
            return Err("the range of ports is empty: write low-high");
        }
        Ok(ports)
    }

    pub(in crate::policy) fn contain(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// Returns whether the ports contain a port to listen on. With port 0 the system chooses, and
    /// may take any port from 1024 on.
    pub(in crate::policy) fn contain_listening(self, port: u16) -> bool {
        let Self { low, high } = Self::UNPRIVILEGED;
        self.contain(port) || port == 0 && self.contain(low) && self.contain(high)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("*"),
            Self { low, high } if low == high => write!(f, "{low}"),
            Self { low, high } => write!(f, "{low}-{high}"),
        }
    }
}
