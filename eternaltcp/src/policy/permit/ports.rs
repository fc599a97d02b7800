//! The ports of a permit.

use std::fmt;

use crate::address::parse_port;

/// A range of ports, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    low: u16,
    high: u16,
}

impl Ports {
    const ALL: Self = Self { low: 1, high: u16::MAX };

    /// Only `port`.
    pub(super) fn exactly(port: u16) -> Self {
        Self { low: port, high: port }
    }

    /// Reads `port`, `low-high` or `*`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::ALL);
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let ports = Self { low: parse_port(low)?, high: parse_port(high)? };
        if ports.low > ports.high {
            return Err("the range of ports is empty: write low-high");
        }
        Ok(ports)
    }

    pub(super) fn contain(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("*"),
            Self { low, high } if low == high => write!(f, "{low}"),
            Self { low, high } => write!(f, "{low}-{high}"),
        }
    }
}
