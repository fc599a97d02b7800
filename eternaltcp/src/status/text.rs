//! Times as numbers in JSON.

use std::time::{Duration, SystemTime};

/// A point in time as milliseconds of Unix time.
pub(crate) mod unix_ms {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Duration, SystemTime, count};

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        to.serialize_u64(count(since.as_millis()))
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<SystemTime, D::Error> {
        let millis = u64::deserialize(from)?;
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(millis))
            .ok_or_else(|| serde::de::Error::custom("a time that this system cannot tell"))
    }
}

/// A duration in milliseconds.
pub(crate) mod millis {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Duration, count};

    pub(crate) fn serialize<S: Serializer>(
        it: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        it.map(|it| count(it.as_millis())).serialize(to)
    }

    pub(crate) fn deserialize<'a, D>(from: D) -> Result<Option<Duration>, D::Error>
    where
        D: Deserializer<'a>,
    {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

/// A duration in milliseconds that is always known.
pub(crate) mod whole_millis {
    use serde::Serializer;

    use super::{Duration, count};

    pub(crate) fn serialize<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(count(it.as_millis()))
    }
}

/// A duration in microseconds.
pub(super) mod micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Duration, count};

    pub(crate) fn serialize<S: Serializer>(
        it: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        it.map(|it| count(it.as_micros())).serialize(to)
    }

    pub(crate) fn deserialize<'a, D>(from: D) -> Result<Option<Duration>, D::Error>
    where
        D: Deserializer<'a>,
    {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_micros))
    }
}

fn count(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Loss;
    use super::*;

    #[test]
    fn times_are_written_as_numbers_and_read_again() {
        let loss = Loss {
            lost_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_000_123),
            kind: "silent".to_owned(),
            why: "silent for 3s".to_owned(),
            outage: Some(Duration::from_millis(310)),
            replayed_bytes: 12,
        };
        let text = serde_json::to_string(&loss).unwrap();
        assert!(text.contains("\"lost_at\":1764000000123"), "{text}");
        assert!(text.contains("\"outage_ms\":310"), "{text}");
        assert_eq!(serde_json::from_str::<Loss>(&text).unwrap(), loss);
        let never = text.replace("1764000000123", "18446744073709551615");
        // Some systems support that time: then it is preserved, and nothing panics.
        let _ = serde_json::from_str::<Loss>(&never);
    }
}
