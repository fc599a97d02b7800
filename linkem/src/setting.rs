//! The settings of a link, and their text form: `delay=20ms`, `up:silence=on`.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use crate::units::{BitRate, Capacity, Probability, TimeSpan};

/// All settings of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkSettings {
    pub(crate) delay: TimeSpan,
    pub(crate) jitter: TimeSpan,
    pub(crate) loss: Probability,
    pub(crate) reorder: Probability,
    pub(crate) rate: Option<BitRate>,
    pub(crate) queue: Option<Capacity>,
    pub(crate) hole: Option<usize>,
    pub(crate) silence: bool,
}

impl LinkSettings {
    /// The size of a queue without an explicit bound.
    const DEFAULT_QUEUE: usize = 10 * 1024 * 1024;

    /// Returns how many bytes may wait for this rate.
    pub(crate) fn queue_bytes(&self, rate: BitRate) -> usize {
        match self.queue {
            None => Self::DEFAULT_QUEUE,
            Some(Capacity::Bytes(bytes)) => bytes,
            Some(Capacity::Time(TimeSpan(time))) => rate.bytes_in(time),
        }
    }

    /// Returns a packet's delay if it gets `part` of twice the jitter.
    pub(crate) fn delay_with(&self, part: Duration) -> Duration {
        (self.delay.0 + part).saturating_sub(self.jitter.0)
    }
}

impl Display for LinkSettings {
    /// Formats a JSON object, with each value in the form in which it can be set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay, jitter, loss, reorder, .. } = self;
        write!(f, r#"{{"delay":"{delay}","jitter":"{jitter}","loss":"{loss}","#)?;
        write!(f, r#""reorder":"{reorder}","rate":"{}","#, or_off(self.rate))?;
        write!(f, r#""queue":"{}","hole":"{}","#, or_off(self.queue), or_off(self.hole))?;
        write!(f, r#""silence":"{}"}}"#, if self.silence { "on" } else { "off" })
    }
}

/// One setting with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// The MTU of both devices.
    Mtu(u32),
    /// A property of one direction or both.
    Link(Which, Property),
}

/// The directions that an assignment applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Both,
    /// Left to right.
    Up,
    /// Right to left.
    Down,
}

/// A property of a direction and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    Delay(TimeSpan),
    Jitter(TimeSpan),
    Loss(Probability),
    Reorder(Probability),
    Rate(Option<BitRate>),
    Queue(Option<Capacity>),
    Hole(Option<usize>),
    Silence(bool),
}

impl Property {
    pub(crate) fn apply(self, settings: &mut LinkSettings) {
        match self {
            Self::Delay(value) => settings.delay = value,
            Self::Jitter(value) => settings.jitter = value,
            Self::Loss(value) => settings.loss = value,
            Self::Reorder(value) => settings.reorder = value,
            Self::Rate(value) => settings.rate = value,
            Self::Queue(value) => settings.queue = value,
            Self::Hole(value) => settings.hole = value,
            Self::Silence(value) => settings.silence = value,
        }
    }

    fn read(key: &str, value: &str) -> Result<Self, String> {
        Ok(match key {
            "delay" => Self::Delay(value.parse()?),
            "jitter" => Self::Jitter(value.parse()?),
            "loss" => Self::Loss(value.parse()?),
            "reorder" => Self::Reorder(value.parse()?),
            "rate" => Self::Rate(unless_off(value, str::parse)?),
            "queue" => Self::Queue(unless_off(value, str::parse)?),
            "hole" => Self::Hole(unless_off(value, read_size)?),
            "silence" => match value {
                "on" => Self::Silence(true),
                "off" => Self::Silence(false),
                _ => return Err("write silence=on or silence=off".to_owned()),
            },
            _ => {
                let keys = "delay, jitter, loss, reorder, rate, queue, hole, silence, mtu";
                return Err(format!("there is no setting {key:?}; there are {keys}"));
            }
        })
    }
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let explain = |problem: String| format!("{text:?}: {problem}");
        let (which, rest) = match text.split_once(':') {
            None => (Which::Both, text),
            Some(("up", rest)) => (Which::Up, rest),
            Some(("down", rest)) => (Which::Down, rest),
            Some(_) => return Err(explain("a direction is up or down".to_owned())),
        };
        let (key, value) = rest
            .split_once('=')
            .ok_or_else(|| explain("write a setting as in delay=20ms".to_owned()))?;
        if key != "mtu" {
            return Property::read(key, value)
                .map(|property| Self::Link(which, property))
                .map_err(explain);
        }
        if which != Which::Both {
            return Err(explain("the MTU is that of both devices: leave out the direction".into()));
        }
        match value.parse() {
            Ok(mtu @ 68..=65535) => Ok(Self::Mtu(mtu)),
            _ => Err(explain("an MTU is a number from 68 to 65535".to_owned())),
        }
    }
}

fn or_off(value: Option<impl Display>) -> String {
    value.map_or_else(|| "off".to_owned(), |value| value.to_string())
}

fn unless_off<T>(
    value: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if value == "off" { Ok(None) } else { read(value).map(Some) }
}

fn read_size(value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| "write the largest packet that gets through in bytes, or off".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_name_a_direction_or_none() {
        let silence = Property::Silence(true);
        for (text, expected) in [
            ("silence=on", Assignment::Link(Which::Both, silence)),
            ("up:silence=on", Assignment::Link(Which::Up, silence)),
            ("down:hole=1300", Assignment::Link(Which::Down, Property::Hole(Some(1300)))),
            ("rate=off", Assignment::Link(Which::Both, Property::Rate(None))),
            ("mtu=1400", Assignment::Mtu(1400)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_wrong_assignment_is_refused_with_itself_in_the_message() {
        for text in [
            "",
            "delay",
            "delay=",
            "delay=soon",
            "left:delay=1ms",
            "up:mtu=1400",
            "mtu=67",
            "mtu=65536",
            "colour=red",
            "silence=maybe",
            "loss=off",
            "hole=-1",
        ] {
            let error = text.parse::<Assignment>().unwrap_err();
            assert!(error.starts_with(&format!("{text:?}: ")), "{error}");
        }
    }

    #[test]
    fn settings_are_shown_as_they_are_set() {
        let mut settings = LinkSettings::default();
        for text in ["delay=20ms", "rate=1mbit", "queue=64kb", "silence=on"] {
            let Ok(Assignment::Link(_, property)) = text.parse() else { panic!("{text}") };
            property.apply(&mut settings);
        }
        assert_eq!(
            settings.to_string(),
            r#"{"delay":"20ms","jitter":"0ms","loss":"0%","reorder":"0%","rate":"1000kbit","queue":"65536b","hole":"off","silence":"on"}"#
        );
    }
}
