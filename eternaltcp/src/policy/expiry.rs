//! The value of `expiry-time=`.

use std::time::{Duration, SystemTime};

use jiff::{civil::DateTime, tz::TimeZone};

/// Parses `YYYYMMDD[HHMM[SS]]`: UTC with a final `Z` or `UTC`, else in `zone`, which is the
/// machine's, as in sshd.
pub(super) fn parse_expiry(text: &str, zone: &TimeZone) -> Result<SystemTime, String> {
    let invalid = || format!("expiry-time={text:?} is not a time: write YYYYMMDD[HHMM[SS]][Z]");
    let upper = text.to_ascii_uppercase();
    let (digits, zone) = match upper.strip_suffix("UTC").or_else(|| upper.strip_suffix('Z')) {
        Some(digits) => (digits, &TimeZone::UTC),
        None => (upper.as_str(), zone),
    };
    let time = parse_digits(digits).ok_or_else(invalid)?;
    let seconds = zone.to_timestamp(time).map_err(|_| invalid())?.as_second();
    let seconds = u64::try_from(seconds).map_err(|_| invalid())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn parse_digits(digits: &str) -> Option<DateTime> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    if !plain || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |d| d.parse().ok());
    let year = digits[..4].parse().ok()?;
    DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz;
    use proptest::prelude::*;

    fn seconds(text: &str, zone: &TimeZone) -> Option<u64> {
        let time = parse_expiry(text, zone).ok()?;
        time.duration_since(SystemTime::UNIX_EPOCH).ok().as_ref().map(Duration::as_secs)
    }

    #[test]
    fn every_form_is_read() {
        for (text, expected) in [
            ("20240229Z", 1_709_164_800),
            ("202402291230Z", 1_709_209_800),
            ("20240229123045z", 1_709_209_845),
            ("20240229123045UTC", 1_709_209_845),
        ] {
            assert_eq!(seconds(text, &TimeZone::fixed(tz::offset(5))), Some(expected), "{text}");
        }
    }

    #[test]
    fn without_z_it_is_local_time() {
        let east = TimeZone::fixed(tz::offset(2));
        assert_eq!(seconds("202402291230", &east), Some(1_709_209_800 - 2 * 3600));
    }

    #[test]
    fn a_text_that_is_not_a_time_is_refused() {
        for text in [
            "",
            "Z",
            "2024",
            "20240230",
            "20241301Z",
            "202402292460",
            "2024022912304",
            "2024-02-29",
            "19690101Z",
            "２0240229",
            "+2024022",
        ] {
            assert!(parse_expiry(text, &TimeZone::UTC).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "[0-9]{0,14}\\PC{0,3}") {
            let _ = parse_expiry(&text, &TimeZone::UTC);
        }
    }
}
