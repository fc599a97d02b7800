//! The event log of a run: its hash always, its lines when asked for.

use std::fmt::{self, Write};

use eternaltcp_proto::Time;

/// Writes down what happens, when. Two runs of one seed must agree to the
/// last letter, so every line goes into a hash whether or not it is kept.
#[derive(Debug, Default)]
pub(crate) struct Log {
    hash: Fnv,
    lines: Option<Vec<String>>,
}

impl Log {
    /// A log; `is_kept` says whether its lines are kept beside their hash.
    #[must_use]
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { hash: Fnv::default(), lines: is_kept.then(Vec::new) }
    }

    /// One line.
    pub(crate) fn note(&mut self, now: Time, what: fmt::Arguments<'_>) {
        let _ = write!(self.hash, "{} ", now.since_origin().as_nanos());
        let _ = self.hash.write_fmt(what);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:?} {what}"));
        }
    }

    /// The hash of all lines so far.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    /// The lines, if they were kept.
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
