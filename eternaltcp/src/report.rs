//! Quantities for people to read.

use std::fmt;
use std::time::Duration;

/// Formats bytes with a decimal unit: `0 B`, `12 kB`, `3.4 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Formats a number with its words: `1 session waits`, `2 sessions wait`.
#[must_use]
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let words = if number == N::from(1) { one } else { many };
    format!("{number} {words}")
}

/// Formats a duration: `0.31 s`, `12 s`, `3 min`, `2.5 h`, `7 days`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..10.0 => format!("{seconds:.2} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{} days", tenths(seconds / 86_400.0)),
    }
}

/// Formats a number with one decimal, unless that is 0.
fn tenths(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1200), "1.2 kB");
        assert_eq!(bytes(123_456_789), "123 MB");
        assert_eq!(duration(Duration::from_millis(312)), "0.31 s");
        assert_eq!(duration(Duration::from_secs(600)), "10 min");
        assert_eq!(duration(Duration::from_secs(9000)), "2.5 h");
        assert_eq!(duration(Duration::from_secs(172_799)), "48.0 h");
        assert_eq!(duration(Duration::from_secs(172_800)), "2 days");
        assert_eq!(duration(Duration::from_secs(7 * 86_400)), "7 days");
        assert_eq!(duration(Duration::from_secs(219_000)), "2.5 days");
        for (number, text) in [(0_u64, "0 sessions"), (1, "1 session"), (2, "2 sessions")] {
            assert_eq!(counted(number, "session", "sessions"), text);
        }
    }
}
