//! The messages between `etcp ssh` and the etcp at the server, sent through the login: lines with a
//! verb and fields.
//!
//! ```text
//! ETERNALTCP 1 serve<TAB>key=ssh-ed25519 AAAA…<TAB>ports=60000-61000
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use eternaltcp::clean;

/// Marks a message among the output of shells and banners.
const MARKER: &str = "ETERNALTCP ";

/// The version of the messages.
const VERSION: &str = "1";

/// The value of a field that turns something off.
pub(crate) const OFF: &str = "off";

/// The longest message; a longer line is not a message.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    verb: String,
    fields: BTreeMap<String, String>,
}

/// The reason why a message cannot be parsed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TalkError {
    /// The other etcp is older or newer.
    #[error("it uses version {0:?} of the protocol of etcp ssh, and this one version {VERSION}")]
    Version(String),
    /// A field is missing or malformed.
    #[error("it sends no usable {0}")]
    Field(&'static str),
}

impl Message {
    pub(crate) fn new(verb: &str) -> Self {
        Self { verb: verb.to_owned(), fields: BTreeMap::new() }
    }

    /// Adds a field. Control characters, which would break the line, become spaces.
    pub(crate) fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.fields.insert(name.to_owned(), clean(&value.to_string()).into_owned());
        self
    }

    pub(crate) fn verb(&self) -> &str {
        &self.verb
    }

    /// Returns a field's text, if the field exists.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Returns a required field.
    pub(crate) fn get<T: FromStr>(&self, name: &'static str) -> Result<T, TalkError> {
        self.text(name).and_then(|text| text.parse().ok()).ok_or(TalkError::Field(name))
    }

    /// Parses a line; returns `None` if it is not a message. Text before the marker is ignored. The
    /// fields come from the other machine, and are cleaned.
    ///
    /// # Errors
    /// The message has another version.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, TalkError> {
        let Some((_, ours)) = line.split_once(MARKER).filter(|_| line.len() <= MAX_LINE) else {
            return Ok(None);
        };
        let mut words = ours.trim_end().split('\t');
        let Some((version, verb)) = words.next().and_then(|head| head.split_once(' ')) else {
            return Ok(None);
        };
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        if version != VERSION {
            return Err(TalkError::Version(version.to_owned()));
        }
        let fields = words.filter_map(|word| word.split_once('='));
        let fields =
            fields.map(|(name, value)| (name.to_owned(), clean(value).into_owned())).collect();
        Ok(Some(Self { verb: verb.to_owned(), fields }))
    }
}

/// Formats the message without a line end.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARKER}{VERSION} {}", self.verb)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, "\t{name}={value}"))
    }
}

/// A range of ports of which the first free one is used: `60000` or `60000-61000`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortChoice {
    first: u16,
    last: u16,
}

impl PortChoice {
    /// Any free port.
    pub(crate) const ANY: Self = Self { first: 0, last: 0 };

    pub(crate) fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl FromStr for PortChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = first.parse().ok().zip(last.parse().ok());
        match ports.map(|(first, last)| Self { first, last }) {
            Some(Self::ANY) => Ok(Self::ANY),
            Some(ports) if ports.first > 0 && ports.first <= ports.last => Ok(ports),
            _ => Err("ports are written 60000 or 60000-61000"),
        }
    }
}

impl fmt::Display for PortChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_writing_and_reading() {
        let said = Message::new("here").with("port", 6200).with("key", "ssh-ed25519 AAAA=");
        assert_eq!(said.to_string(), "ETERNALTCP 1 here\tkey=ssh-ed25519 AAAA=\tport=6200");
        let heard = Message::parse(&format!("\u{1b}[0mWelcome! {said}\r\n")).unwrap().unwrap();
        assert_eq!(heard, said);
        assert_eq!(heard.get::<u16>("port"), Ok(6200));
        assert_eq!(heard.get::<u16>("key"), Err(TalkError::Field("key")));
        assert_eq!(heard.get::<u16>("nothing"), Err(TalkError::Field("nothing")));
    }

    #[test]
    fn other_lines_are_noise_and_other_versions_are_reported() {
        for line in ["", "Welcome", "ETERNALTCP", "ETERNALTCP is here", "ETERNALTCP  x"] {
            assert_eq!(Message::parse(line), Ok(None), "{line:?}");
        }
        let long = format!("ETERNALTCP 1 here\tx={}", "y".repeat(MAX_LINE));
        assert_eq!(Message::parse(&long), Ok(None));
        assert_eq!(Message::parse("ETERNALTCP 2 here"), Err(TalkError::Version("2".to_owned())));
    }

    #[test]
    fn a_value_cannot_break_its_line() {
        let said = Message::new("error").with("text", "a\nb\tc=d");
        assert_eq!(said.to_string(), "ETERNALTCP 1 error\ttext=a b c=d");
    }

    #[test]
    fn text_of_the_other_machine_cannot_control_the_terminal() {
        let line = "ETERNALTCP 1 error\ttext=no\x1b[2J\u{9b}2J\u{202e}\rway";
        let heard = Message::parse(line).unwrap().unwrap();
        assert_eq!(heard.text("text"), Some("no [2J 2J  way"));
    }

    #[test]
    fn ports_are_one_or_a_range() {
        for (text, count) in [("60000", 1), ("60000-61000", 1001), ("0-0", 1)] {
            assert_eq!(text.parse::<PortChoice>().map(|ports| ports.iter().count()), Ok(count));
        }
        for text in ["", "0-9", "9-8", "1-", "-1", "65536", "1-2-3", "ssh"] {
            assert!(text.parse::<PortChoice>().is_err(), "{text}");
        }
    }
}
