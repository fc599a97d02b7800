//! The event log of a run: always its hash, and its lines on request.

use std::fmt::{self, Write};

use eternaltcp_proto::Time;

/// Records events with their times. Two runs of one seed must have exactly the same log, so every
/// line is hashed whether or not it is kept.
#[derive(Debug, Default)]
pub(crate) struct Log {
    hash: Option<Fnv>,
    lines: Option<Vec<String>>,
}

impl Log {
    /// Creates a log, with a hash or without; `is_kept` says whether its lines are kept.
    #[must_use]
    pub(crate) fn new(is_hashed: bool, is_kept: bool) -> Self {
        Self { hash: is_hashed.then(Fnv::default), lines: is_kept.then(Vec::new) }
    }

    /// Adds one line.
    pub(crate) fn note(&mut self, now: Time, what: fmt::Arguments<'_>) {
        if let Some(hash) = &mut self.hash {
            let _ = write!(hash, "{} ", now.since_origin().as_nanos());
            let _ = hash.write_fmt(what);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:?} {what}"));
        }
    }

    /// Returns the hash of all lines so far; 0 without one.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        self.hash.as_ref().map_or(0, |hash| hash.0)
    }

    /// Returns the lines, if they were kept.
    #[must_use]
    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// FNV-1a, 64 bits.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
