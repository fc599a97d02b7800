//! Durations in flags and configuration files.

use std::time::Duration;

/// Parses a whole number with its unit: `500ms`, `10s`, `5m`, `2h`, `7d`.
///
/// # Errors
/// One line that quotes the text and says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(malformed(text)),
    };
    if number.is_empty() {
        return Err(malformed(text));
    }
    let ms = number.parse().ok().and_then(|n: u64| n.checked_mul(unit_ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is too long a duration"))
}

fn malformed(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!(
        "{shown:?} is not a duration: write a whole number and its unit, as in 500ms, 10s, 5m, 2h or 7d"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_is_read() {
        for (text, ms) in [
            ("500ms", 500),
            ("0s", 0),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_duration_is_refused() {
        for text in ["", "10", "s", "-1s", "+1s", "1.5s", "1 s", " 1s", "1S", "1h30m", "1w", "١s"]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("whole number and its unit"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_duration_that_overflows_is_refused() {
        for text in ["99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).unwrap_err().contains("too long"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn milliseconds_come_back(ms in any::<u64>()) {
            prop_assert_eq!(parse_duration(&format!("{ms}ms")), Ok(Duration::from_millis(ms)));
        }
    }
}
