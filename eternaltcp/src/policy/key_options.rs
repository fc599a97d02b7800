//! The options before a key in `authorized_keys`.

use std::time::SystemTime;

use jiff::tz::TimeZone;

use super::{
    expiry::parse_expiry,
    host_ports::{HostPort, HostPorts},
    pattern::AddressList,
};

/// Flags for features that a carrier never has: a terminal, an agent, X11, a shell's start-up file,
/// security keys. The key has the same permissions with or without them, so they are accepted
/// without effect.
const FLAGS_WITHOUT_EFFECT: [&str; 6] =
    ["pty", "agent-forwarding", "x11-forwarding", "user-rc", "touch-required", "verify-required"];

/// The same for options with a value: a shell's environment, a network device.
const VALUES_WITHOUT_EFFECT: [&str; 2] = ["environment", "tunnel"];

/// The parsed options of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyOptions {
    /// Whether the key may forward at all; every session is a forward.
    pub(super) forwarding: bool,
    /// Allowed source addresses; `None` means everywhere.
    pub(super) from: Option<AddressList>,
    /// The last moment at which it is valid.
    pub(super) expires: Option<SystemTime>,
    pub(super) open: HostPorts,
    pub(super) listen: HostPorts,
}

impl KeyOptions {
    /// Returns the options of a line without any.
    pub(super) fn none() -> Self {
        Self {
            forwarding: true,
            from: None,
            expires: None,
            open: HostPorts::Any,
            listen: HostPorts::Any,
        }
    }

    /// Parses `name,name="value",…`. One unknown option invalidates all of them, because it may
    /// forbid something.
    pub(super) fn parse(text: &str, zone: &TimeZone) -> Result<Self, String> {
        let mut options = Self::none();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let option = next_option(text)?;
            options.apply(&option.name, option.value.as_deref(), zone)?;
            rest = option.rest;
        }
        Ok(options)
    }

    /// Applies one option; a later one overrides an earlier one, as in sshd.
    fn apply(&mut self, name: &str, value: Option<&str>, zone: &TimeZone) -> Result<(), String> {
        match (name, value) {
            ("restrict" | "no-port-forwarding", None) => self.forwarding = false,
            ("port-forwarding", None) => self.forwarding = true,
            ("permitopen", Some(value)) => self.open.add(HostPort::parse_open(value)?),
            ("permitlisten", Some(value)) => self.listen.add(HostPort::parse_listen(value)?),
            ("from", Some(_)) if self.from.is_some() => {
                return Err("from= is given twice: write one list".to_owned());
            }
            ("from", Some(value)) => self.from = Some(AddressList::parse(value)?),
            ("expiry-time", Some(value)) => {
                let time = parse_expiry(value, zone)?;
                self.expires = Some(self.expires.map_or(time, |earlier| earlier.min(time)));
            }
            ("command", _) => {
                return Err("command= asks for something that a carrier cannot do".to_owned());
            }
            ("cert-authority" | "principals", _) => {
                return Err(format!("{name} is for certificates, which are not supported"));
            }
            (name, Some(_)) if VALUES_WITHOUT_EFFECT.contains(&name) => {}
            (name, None) if is_flag_without_effect(name) => {}
            (name, _) => return Err(format!("the option {name:?} is unknown in this form")),
        }
        Ok(())
    }
}

fn is_flag_without_effect(name: &str) -> bool {
    FLAGS_WITHOUT_EFFECT.contains(&name.strip_prefix("no-").unwrap_or(name))
}

/// Splits a line after its options, at the first space outside quotes. Returns `None` if a quote is
/// not closed.
pub(super) fn split_options(line: &str) -> Option<(&str, &str)> {
    let bytes = line.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while at < bytes.len() && (quoted || !matches!(bytes[at], b' ' | b'\t')) {
        match &bytes[at..] {
            [b'\\', b'"', ..] => at += 1,
            [b'"', ..] => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    if quoted { None } else { Some((&line[..at], line[at..].trim_start())) }
}

/// One option as written.
struct KeyOption<'a> {
    /// In lower case.
    name: String,
    /// Without its quotes.
    value: Option<String>,
    /// The text after the comma, if there is one.
    rest: Option<&'a str>,
}

fn next_option(text: &str) -> Result<KeyOption<'_>, String> {
    let (name, mut after) = text.split_at(text.find([',', '=']).unwrap_or(text.len()));
    if name.is_empty() {
        return Err("an option is empty".to_owned());
    }
    let mut value = None;
    if let Some(assigned) = after.strip_prefix('=') {
        let unquoted = unquote(assigned);
        let (text, rest) =
            unquoted.ok_or_else(|| format!("the value of {name:?} is not in quotes"))?;
        value = Some(text);
        after = rest;
    }
    let rest = after.strip_prefix(',');
    if rest.is_none() && !after.is_empty() {
        return Err(format!("a comma is missing after {name:?}"));
    }
    Ok(KeyOption { name: name.to_ascii_lowercase(), value, rest })
}

/// Removes the quotes of a value, in which `\"` is a quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.strip_prefix('"')?;
    loop {
        let (part, after) = rest.split_once('"')?;
        rest = after;
        match part.strip_suffix('\\') {
            Some(part) => value = value + part + "\"",
            None => return Some((value + part, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<KeyOptions, String> {
        KeyOptions::parse(text, &TimeZone::UTC)
    }

    #[test]
    fn forwarding_is_what_the_last_option_says() {
        for (text, forwarding) in [
            ("pty", true),
            ("restrict", false),
            ("no-port-forwarding", false),
            ("restrict,port-forwarding", true),
            ("RESTRICT,Port-Forwarding", true),
            ("port-forwarding,restrict", false),
            ("restrict,pty", false),
        ] {
            assert_eq!(parse(text).map(|options| options.forwarding), Ok(forwarding), "{text}");
        }
    }

    #[test]
    fn options_without_effect_are_accepted() {
        for text in [
            "no-pty,no-X11-forwarding,no-agent-forwarding,no-user-rc",
            "environment=\"A=b\",tunnel=\"0\"",
        ] {
            assert_eq!(parse(text), Ok(KeyOptions::none()), "{text}");
        }
    }

    #[test]
    fn an_unknown_option_invalidates_the_line() {
        for text in [
            "command=\"ls\"",
            "cert-authority",
            "principals=\"a\"",
            "no-such-option",
            "restrict=\"x\"",
            "pty=\"x\"",
            "no-no-pty",
            "tunnel",
            "from",
            "from=10.0.0.1",
            "from=\"10.0.0.1",
            "from=\"10.0.0.1\"restrict",
            "restrict,",
            ",restrict",
            "",
            "from=\"10.0.0.1\",from=\"10.0.0.2\"",
            "permitopen=\"x\"",
            "expiry-time=\"soon\"",
            "from=\"a.example.org\"",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quotes_hold_blanks_commas_and_quotes() {
        let line = r#"environment="a=\"b c\", d",restrict key"#;
        let (options, rest) = split_options(line).unwrap();
        assert_eq!(rest, "key");
        assert_eq!(next_option(options).unwrap().value.as_deref(), Some(r#"a="b c", d"#));
        assert!(!parse(options).unwrap().forwarding);
        assert_eq!(split_options("from=\"10.0.0.1 key"), None);
    }

    #[test]
    fn the_earliest_of_several_expiry_times_counts() {
        let two = parse("expiry-time=\"20300101Z\",expiry-time=\"20250101Z\"").unwrap();
        assert_eq!(two.expires, parse("expiry-time=\"20250101Z\"").unwrap().expires);
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "[a-z\\-=\"\\\\, é]{0,60}") {
            let _ = parse(&text);
            let _ = split_options(&text);
        }
    }
}
