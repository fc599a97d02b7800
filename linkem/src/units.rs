//! The quantities in settings: times, probabilities, rates, sizes.
//!
//! Each is parsed from text and formatted as text that parses to the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time of at most a minute: `500us`, `20ms`, `1.5s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeSpan(pub(crate) Duration);

impl TimeSpan {
    /// Longer delays would only fill memory.
    const MAX_SECONDS: f64 = 60.0;
}

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
        let seconds = read(text, &units).ok_or("write a time as in 500us, 20ms or 1.5s")?;
        if seconds > Self::MAX_SECONDS {
            return Err("a time is at most 60s".to_owned());
        }
        Ok(Self(Duration::from_nanos((seconds * 1e9).round() as u64)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_nanos() as f64 / 1e6)
    }
}

/// A number of packets per million: `0.5%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probability(pub(crate) u64);

impl Probability {
    pub(crate) const WHOLE: u64 = 1_000_000;
}

impl FromStr for Probability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match read(text, &[("%", 1.0)]) {
            Some(percent) if percent <= 100.0 => Ok(Self((percent * 1e4).round() as u64)),
            _ => Err("write a probability from 0% to 100%, as in 0.5%".to_owned()),
        }
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 as f64 / 1e4)
    }
}

/// Bits per second: `100mbit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitRate(u64);

impl BitRate {
    const MIN: f64 = 1e3;
    const MAX: f64 = 1e12;

    /// Returns how long this many bytes take.
    pub(crate) fn time_for(self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns how many bytes pass in a time.
    pub(crate) fn bytes_in(self, time: Duration) -> usize {
        let bytes = u128::from(self.0) * time.as_nanos() / 8 / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
        match read(text, &units) {
            Some(bits) if (Self::MIN..=Self::MAX).contains(&bits) => Ok(Self(bits as u64)),
            _ => Err("write a rate from 1kbit to 1000gbit, as in 100mbit, or off".to_owned()),
        }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}kbit", self.0 as f64 / 1e3)
    }
}

/// The length of the queue for the rate: `100ms` of it, or `64kb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// The number of bytes that the rate carries in this time.
    Time(TimeSpan),
    /// This many bytes.
    Bytes(usize),
}

impl FromStr for Capacity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A kb is 1024 bytes, as tc(8) counts.
        let units = [("kb", 1024.0), ("mb", 1024.0 * 1024.0), ("b", 1.0)];
        match read(text, &units) {
            Some(bytes) if bytes <= 64.0 * 1024.0 * 1024.0 => Ok(Self::Bytes(bytes as usize)),
            Some(_) => Err("a queue is at most 64mb".to_owned()),
            None => text.parse().map(Self::Time).map_err(|_| {
                "write a queue as a time, as in 100ms, or a size, as in 64kb, or off".to_owned()
            }),
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => time.fmt(f),
            Self::Bytes(bytes) => write!(f, "{bytes}b"),
        }
    }
}

/// Parses a decimal number and one of the units, and returns their product.
fn read(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn comes_back<T: FromStr + fmt::Display>(text: &str, shown: &str)
    where
        T::Err: fmt::Debug,
    {
        let value: T = text.parse().unwrap();
        assert_eq!(value.to_string(), shown);
        assert_eq!(shown.parse::<T>().unwrap().to_string(), shown);
    }

    #[test]
    fn quantities_are_read_and_shown() {
        comes_back::<TimeSpan>("20ms", "20ms");
        comes_back::<TimeSpan>("1.5s", "1500ms");
        comes_back::<TimeSpan>("250us", "0.25ms");
        comes_back::<Probability>("0.5%", "0.5%");
        comes_back::<Probability>("100%", "100%");
        comes_back::<BitRate>("1.5gbit", "1500000kbit");
        comes_back::<Capacity>("64kb", "65536b");
        comes_back::<Capacity>("100ms", "100ms");
    }

    #[test]
    fn a_text_that_is_not_a_quantity_is_refused() {
        for text in ["", "20", "ms", "-1ms", "1e3ms", "1 ms", "61s", "1..2ms", ".ms", "nans"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text:?}");
        }
        for text in ["1", "101%", "-1%", "%", "0.5"] {
            assert!(text.parse::<Probability>().is_err(), "{text:?}");
        }
        for text in ["0kbit", "0.5kbit", "1mb", "2000gbit", "100"] {
            assert!(text.parse::<BitRate>().is_err(), "{text:?}");
        }
        for text in ["65mb", "100", "kb", "100mbit"] {
            assert!(text.parse::<Capacity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_rate_is_a_time_per_byte() {
        let rate: BitRate = "1mbit".parse().unwrap();
        assert_eq!(rate.time_for(1250), Duration::from_millis(10));
        assert_eq!(rate.bytes_in(Duration::from_millis(10)), 1250);
    }
}
