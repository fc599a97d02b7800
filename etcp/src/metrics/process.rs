//! The figures of the process itself, under the names that Prometheus' own libraries give them.

use std::time::Duration;

/// The processor time and the memory of this process.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct ProcessFigures {
    pub(super) processor: Duration,
    pub(super) resident_bytes: u64,
}

impl ProcessFigures {
    /// Returns the present figures, if the system has them.
    pub(super) fn now() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        Self::parse(&text, page, rustix::param::clock_ticks_per_second())
    }

    /// Reads a line of proc(5).
    fn parse(stat: &str, page: u64, ticks: u64) -> Option<Self> {
        // The name of the program may contain anything. After it comes the third field.
        let (_, rest) = stat.rsplit_once(')')?;
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse().ok();
        let (user, system, pages): (u64, u64, u64) = (field(14)?, field(15)?, field(24)?);
        let nanos = (user + system).checked_mul(1_000_000_000)? / ticks.max(1);
        Some(Self { processor: Duration::from_nanos(nanos), resident_bytes: pages * page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read_whatever_the_program_is_called() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 9 9000 12 1844 1 1";
        let found = ProcessFigures::parse(line, 4096, 100).unwrap();
        assert_eq!((found.processor, found.resident_bytes), (Duration::from_secs(2), 12 * 4096));
        assert_eq!(ProcessFigures::parse("7 (a) S 1", 4096, 100), None);
        assert!(ProcessFigures::now().is_none_or(|now| now.resident_bytes > 0));
    }
}
