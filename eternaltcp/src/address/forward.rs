//! The forward specification of `-L` and `-R`, as in ssh.

use std::{cmp::Reverse, fmt, str::FromStr};

use super::{
    AddressError, Listen, Target,
    syntax::{Problem, parse_listen_port, split_zone, strip_unix},
};

const EXPECTED: &str =
    "a forward ([bind:]port:host:hostport, with unix:/path in place of either side)";

/// A rule that creates sessions: a listener on one side, a target on the other.
///
/// Parsed from `[bind:]port:host:hostport`; either side may be a Unix socket, written `/path` as in
/// ssh, or `unix:/path`. Without `bind` it listens on both loopback addresses; an empty `bind` or
/// `*` means every address, as in ssh. Any host may have brackets, and a port may be the name of a
/// service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forward {
    /// The address where connections are accepted.
    pub listen: Listen,
    /// The target of the sessions.
    pub target: Target,
}

impl Forward {
    fn parse(text: &str) -> Result<Self, Problem> {
        let fields = fields(text)?;
        if let [first, Field::Word(host)] = fields.as_slice() {
            return Err(two_fields(first, host));
        }
        let (listen, target) = match fields.as_slice() {
            [listen @ .., Field::Path(path)] => (listen, Target::unix(path)?),
            [listen @ .., Field::Word(host), Field::Word(port)] => {
                (listen, Target::tcp(host, port)?)
            }
            _ => return Err("the target is missing: end with host:hostport or unix:/path"),
        };
        let listen = match listen {
            [Field::Path(path)] => Listen::unix(path)?,
            [Field::Word(port)] => Listen::local(port)?,
            [Field::Word(bind), Field::Word(port)] => Listen::tcp(bind, port)?,
            [] => return Err("the port to listen on is missing"),
            _ => return Err("it has too many parts (write IPv6 addresses in brackets)"),
        };
        Ok(Self { listen, target })
    }
}

impl FromStr for Forward {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text).map_err(|problem| match correction(text) {
            Some(correction) => AddressError::new(text, EXPECTED, correction),
            None => AddressError::new(text, EXPECTED, problem),
        })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_side(f, &self.listen, matches!(self.listen, Listen::Unix(_)))?;
        f.write_str(":")?;
        write_side(f, &self.target, matches!(self.target, Target::Unix(_)))
    }
}

/// Brackets enclose a path with a colon.
fn write_side(f: &mut fmt::Formatter<'_>, side: &dyn fmt::Display, is_unix: bool) -> fmt::Result {
    let text = side.to_string();
    match text.strip_prefix("unix:") {
        Some(path) if is_unix && path.contains(':') => write!(f, "[{path}]"),
        _ => f.write_str(&text),
    }
}

/// A part of a forward between two colons.
enum Field<'a> {
    /// A port, a name or an address, without its brackets.
    Word(&'a str),
    /// A Unix path, without `unix:`.
    Path(&'a str),
}

/// Describes the fault in two fields of which the second is not a path.
fn two_fields(first: &Field<'_>, second: &str) -> Problem {
    match (first, second) {
        (_, "") => "the target is missing: end with host:hostport or unix:/path",
        (Field::Path(_), _) => "the target's port is missing: end with host:hostport",
        (Field::Word(word), _) if parse_listen_port(word).is_ok() => {
            "the target's port is missing: end with host:hostport, as in 5432:localhost:5432"
        }
        _ => "the port to listen on is missing: begin with it, as in 5432:localhost:5432",
    }
}

/// Returns the correct form, if it is clear.
fn correction(text: &str) -> Option<String> {
    // A longer text cannot be a forward, whatever is added to it.
    if text.len() > AddressError::SHOWN {
        return None;
    }
    if let Some(shorter) = text.strip_suffix(':')
        && Forward::parse(shorter).is_ok()
    {
        return Some(format!("leave out the colon at the end: {shorter}"));
    }
    match with_brackets(text) {
        Some(bracketed) => Some(format!("an IPv6 address needs brackets: {bracketed}")),
        // A forward without an IPv6 address has fewer colons.
        None if text.matches(':').count() > 4 => {
            Some("write IPv6 addresses in brackets, as in 8080:[::1]:80".to_owned())
        }
        None => None,
    }
}

/// Returns the forward with brackets around its longest IPv6 address without them.
fn with_brackets(text: &str) -> Option<String> {
    let ends = |at: &usize| *at == text.len() || text.as_bytes()[*at] == b':';
    let begins = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b':';
    let mut parts = Vec::new();
    for start in (0..text.len()).filter(begins) {
        for end in (start + 1..=text.len()).filter(ends) {
            // The text may have characters of more than one byte.
            let part = text.get(start..end).filter(|part| split_zone(part).is_ok());
            parts.extend(part.map(|_| start..end));
        }
    }
    parts.sort_by_key(|part| Reverse(part.len()));
    let corrected = parts.into_iter().map(|part| {
        format!("{}[{}]{}", &text[..part.start], &text[part.clone()], &text[part.end..])
    });
    corrected.into_iter().find(|text| Forward::parse(text).is_ok())
}

fn fields(text: &str) -> Result<Vec<Field<'_>>, Problem> {
    let mut fields = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (field, after) = next_field(text)?;
        fields.push(field);
        rest = match after.strip_prefix(':') {
            None if after.is_empty() => None,
            None => return Err("only a colon may follow a bracket"),
            more => more,
        };
    }
    Ok(fields)
}

/// Returns the first field of `text`, and the text after it.
fn next_field(text: &str) -> Result<(Field<'_>, &str), Problem> {
    if let Some(inside) = text.strip_prefix('[') {
        let (word, after) = inside.split_once(']').ok_or("a bracket is not closed")?;
        let is_path = word.starts_with('/');
        return Ok((if is_path { Field::Path(word) } else { Field::Word(word) }, after));
    }
    let path = strip_unix(text).unwrap_or(text);
    let is_path = path.starts_with('/');
    let text = if is_path { path } else { text };
    let (field, after) = text.split_at(text.find(':').unwrap_or(text.len()));
    Ok((if is_path { Field::Path(field) } else { Field::Word(field) }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_ssh_is_read() {
        for (text, canonical) in [
            ("8080:db:5432", "localhost:8080:db:5432"),
            ("localhost:8080:db:5432", "localhost:8080:db:5432"),
            ("[LOCALHOST.]:8080:[Db.]:5432", "localhost:8080:Db.:5432"),
            ("127.0.0.1:8080:[127.0.0.1]:5432", "127.0.0.1:8080:127.0.0.1:5432"),
            ("*:8080:db:5432", "*:8080:db:5432"),
            (":8080:db:5432", "*:8080:db:5432"),
            ("[]:8080:db:5432", "*:8080:db:5432"),
            ("example.org:80:db:22", "example.org:80:db:22"),
            ("[fe80::1%eth0]:8080:[fe80::2%eth1]:22", "[fe80::1%eth0]:8080:[fe80::2%eth1]:22"),
            ("localhost:http:db:ssh", "localhost:80:db:22"),
            ("[::1]:8080:[2001:db8::1]:22", "[::1]:8080:[2001:db8::1]:22"),
            ("8080:[::1]:22", "localhost:8080:[::1]:22"),
            ("8080:/run/x.sock", "localhost:8080:unix:/run/x.sock"),
            ("8080:unix:/run/x.sock", "localhost:8080:unix:/run/x.sock"),
            ("[/run/a:b.sock]:db:22", "[/run/a:b.sock]:db:22"),
            ("0.0.0.0:8080:unix:/x", "0.0.0.0:8080:unix:/x"),
            ("/local.sock:db:22", "unix:/local.sock:db:22"),
            ("unix:/a:unix:/b", "unix:/a:unix:/b"),
            ("8080:unix:22", "localhost:8080:[unix]:22"),
            ("8080:UNIX:/x", "localhost:8080:unix:/x"),
        ] {
            let forward: Forward = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(forward.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(forward));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ":",
            "::",
            ":::",
            "8080",
            "8080:db",
            "db:22",
            "8080:db:",
            "8080:db:0",
            "8080::22",
            "x:db:22",
            "99999:db:22",
            "a:b:8080:db:22",
            "::1:8080:db:22",
            "[::1:8080:db:22",
            "[::1]x:8080:db:22",
            "8080/db/22",
            "8080:*:22",
            "8080:/",
            "8080:/a/../b",
            "/a:/b:/c",
            "/x",
            "8080:db:22:",
        ] {
            assert!(text.parse::<Forward>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, expected) in [
            ("5432:localhost", "the target's port is missing"),
            ("http:localhost", "the target's port is missing"),
            ("/run/x:db", "the target's port is missing"),
            ("localhost:5432", "the port to listen on is missing"),
            ("5432:", "the target is missing"),
            ("5432", "the target is missing"),
            ("5432:db:", "the port is missing"),
        ] {
            let error = text.parse::<Forward>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_tells_what_to_write_instead() {
        for (text, message) in [
            ("5811:::1:7777", "an IPv6 address needs brackets: 5811:[::1]:7777"),
            ("*:5811:::1:7777", "an IPv6 address needs brackets: *:5811:[::1]:7777"),
            ("::1:5811:db:7777", "an IPv6 address needs brackets: [::1]:5811:db:7777"),
            ("5811:2001:db8::1:22", "an IPv6 address needs brackets: 5811:[2001:db8::1]:22"),
            ("80:fe80::1%eth0:ssh", "an IPv6 address needs brackets: 80:[fe80::1%eth0]:ssh"),
            ("::1:5811:/run/x", "an IPv6 address needs brackets: [::1]:5811:/run/x"),
            ("[::1]:5811:::1:7777", "an IPv6 address needs brackets: [::1]:5811:[::1]:7777"),
            ("5811:localhost:7777:", "leave out the colon at the end: 5811:localhost:7777"),
            (":5811:db:7777:", "leave out the colon at the end: :5811:db:7777"),
            ("5811:/run/x:", "leave out the colon at the end: 5811:/run/x"),
            ("::1:80:::1:90", "write IPv6 addresses in brackets, as in 8080:[::1]:80"),
        ] {
            let error = text.parse::<Forward>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not {EXPECTED}: {message}"));
        }
        let long = format!("{}::1:é", "x".repeat(1000));
        assert!(long.parse::<Forward>().is_err() && "é:::1:80".parse::<Forward>().is_err());
    }
}
