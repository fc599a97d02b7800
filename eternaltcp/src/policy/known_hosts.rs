//! The lines of `known_hosts` files, and the check of a server's key against them.

use std::io::{self, BufRead, Read as _};

use base64ct::{Base64, Encoding};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use tracing::debug;

use super::{parse_key, pattern::matches_name_list, split_word};
use crate::address::{Host, ServerAddress};
use eternaltcp_tls::{KeyError, PublicKey};

/// The port whose hosts appear in the file without brackets, as in ssh.
const SSH_PORT: u16 = 22;

/// The longest line that is read, in bytes. A longer one is ignored.
const MAX_LINE: u64 = 1 << 20;

/// The result of a file for a server's key. Of several results the greatest one decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HostKey {
    /// No line names the server.
    Unknown,
    /// A line has the key and the server's name without its port, and no line names
    /// the port.
    KnownByName,
    /// The server is known by another key.
    Changed {
        /// The first line that names the server, counted from 1.
        line: usize,
        /// The fingerprint of the key on that line.
        stored: String,
    },
    /// The key belongs to the server.
    Known,
    /// The key must no longer be trusted.
    Revoked {
        /// The line with the revocation, counted from 1.
        line: usize,
    },
}

/// Searches `known_hosts` files for one server, line by line, so that a file of any size takes no
/// memory.
#[derive(Debug, Clone)]
pub struct HostSearch {
    /// The server's name with its port, as lines write it.
    name: String,
    /// The name without the port, if that is different.
    bare: Option<String>,
}

impl HostSearch {
    /// Creates a search for `server`. As in ssh, a line without a port means port 22, and also any
    /// other port for which no line has another key.
    #[must_use]
    pub fn new(server: &ServerAddress) -> Self {
        let host = Host::canonical(&server.host);
        match server.port {
            SSH_PORT => Self { name: host.to_string(), bare: None },
            port => Self { name: format!("[{host}]:{port}"), bare: Some(host.to_string()) },
        }
    }

    /// Checks the key that the server has proved against the lines of one file. A revocation
    /// decides first; then any line with this key makes it known, as in ssh. Never fails on a line:
    /// a malformed one has no effect, nor has one for certificates or for a key type that a carrier
    /// cannot use.
    ///
    /// A server that is listed only with a key of another type is [`HostKey::Changed`], whereas ssh
    /// would ask. ssh requests the listed types from a server, but here the server has one key, so
    /// an unexpected type is an unexpected key.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn check(&self, file: impl BufRead, key: &PublicKey) -> io::Result<HostKey> {
        let mut found = HostKey::Unknown;
        for_each_line(file, |line, text| {
            let says = match self.check_line(line, text, key) {
                Ok(says) => says,
                Err(why) => return debug!("line {line} of known_hosts is ignored: {why}"),
            };
            // Of several lines with another key, the first one is reported.
            if !matches!((&found, &says), (HostKey::Changed { .. }, HostKey::Changed { .. })) {
                found = says.max(std::mem::replace(&mut found, HostKey::Unknown));
            }
        })?;
        Ok(found)
    }

    /// Returns the first line, counted from 1, by which ssh would trust certificates of the server.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn find_authority(&self, file: impl BufRead) -> io::Result<Option<usize>> {
        let mut found = None;
        for_each_line(file, |line, text| {
            let Ok((Marker::Authority, rest)) = split_marker(text) else { return };
            let is_it = |names: HostPatterns<'_>| {
                let bare = self.bare.as_deref();
                names.match_name(&self.name) || bare.is_some_and(|bare| names.match_name(bare))
            };
            if HostPatterns::parse(split_word(rest).0).is_ok_and(is_it) {
                found.get_or_insert(line);
            }
        })?;
        Ok(found)
    }

    /// Returns the result of one line for the key.
    fn check_line(&self, line: usize, text: &str, key: &PublicKey) -> Result<HostKey, String> {
        let (marker, text) = split_marker(text)?;
        let (names, stored) = split_word(text);
        let names = HostPatterns::parse(names)?;
        let is_exact = names.match_name(&self.name);
        if marker == Marker::Authority
            || !is_exact && !self.bare.as_deref().is_some_and(|bare| names.match_name(bare))
        {
            return Ok(HostKey::Unknown);
        }
        let stored = match parse_key(stored) {
            Ok(stored) => stored,
            Err(KeyError::Unsupported(_)) => return Ok(HostKey::Unknown),
            Err(error) => return Err(error.to_string()),
        };
        Ok(match (marker, stored == *key) {
            (Marker::Revoked, true) => HostKey::Revoked { line },
            (Marker::None, true) if is_exact => HostKey::Known,
            (Marker::None, true) => HostKey::KnownByName,
            (Marker::None, false) if is_exact => {
                HostKey::Changed { line, stored: stored.fingerprint() }
            }
            _ => HostKey::Unknown,
        })
    }
}

/// Calls `handle` with each relevant line and its number from 1: without blank lines, comments and
/// surrounding spaces, and with a replacement character for bytes that are not UTF-8.
fn for_each_line(mut file: impl BufRead, mut handle: impl FnMut(usize, &str)) -> io::Result<()> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if file.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.len() as u64 == MAX_LINE && bytes.last() != Some(&b'\n') {
            file.skip_until(b'\n')?;
            continue;
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            handle(number, line);
        }
    }
    Ok(())
}

/// Returns the line that makes a server known by `key`, without its end.
#[must_use]
pub fn known_hosts_line(server: &ServerAddress, key: &PublicKey) -> String {
    format!("{} {key}", file_name(server))
}

/// Returns such a line with the name hashed with its own salt, as `HashKnownHosts` does.
#[must_use]
pub(crate) fn hashed_known_hosts_line(server: &ServerAddress, key: &PublicKey) -> String {
    let mut salt = [0; 20];
    let random = getrandom::fill(&mut salt);
    // Without randomness, it is better to store the name in clear than to lose the key.
    let (Ok(()), Ok(mac)) = (random, Hmac::<Sha1>::new_from_slice(&salt)) else {
        return known_hosts_line(server, key);
    };
    let hash = mac.chain_update(file_name(server)).finalize().into_bytes();
    format!("|1|{}|{} {key}", Base64::encode_string(&salt), Base64::encode_string(&hash))
}

/// Returns the server's name in the file: `host` on ssh's port, else `[host]:port`.
fn file_name(server: &ServerAddress) -> String {
    HostSearch::new(server).name
}

/// The word that may precede the names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    /// A certificate authority, which concerns only ssh.
    Authority,
}

fn split_marker(text: &str) -> Result<(Marker, &str), String> {
    if !text.starts_with('@') {
        return Ok((Marker::None, text));
    }
    match split_word(text) {
        ("@revoked", rest) => Ok((Marker::Revoked, rest)),
        ("@cert-authority", rest) => Ok((Marker::Authority, rest)),
        _ => Err("the marker is not known (@revoked or @cert-authority)".to_owned()),
    }
}

/// The servers that a line names.
enum HostPatterns<'a> {
    /// A comma-separated list of patterns.
    List(&'a str),
    /// HMAC-SHA1 of one name, keyed by the salt.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl<'a> HostPatterns<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let Some(hashed) = text.strip_prefix('|') else {
            return Ok(Self::List(text));
        };
        let malformed = || "the hashed name is not |1|SALT|HASH".to_owned();
        let (salt, hash) = hashed
            .strip_prefix("1|")
            .and_then(|rest| rest.split_once('|'))
            .ok_or_else(malformed)?;
        let decode = |text| Base64::decode_vec(text).map_err(|_| malformed());
        Ok(Self::Hashed { salt: decode(salt)?, hash: decode(hash)? })
    }

    fn match_name(&self, name: &str) -> bool {
        match self {
            Self::List(list) => matches_name_list(list, name),
            Self::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name).verify_slice(hash).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_keys::*, *};
    use proptest::prelude::*;

    fn check(text: impl AsRef<[u8]>, server: &str, key: &str) -> HostKey {
        let search = HostSearch::new(&server.parse().unwrap());
        search.check(text.as_ref(), &parse_key(key).unwrap()).unwrap()
    }

    #[test]
    fn the_names_of_a_line_are_matched_as_in_ssh() {
        for (names, server, known) in [
            ("[example.org]:6200", "example.org", true),
            ("[example.org]:6200", "EXAMPLE.org.", true),
            ("[EXAMPLE.org]:6200", "example.org", true),
            ("example.org", "example.org:22", true),
            ("[example.org]:22", "example.org:22", false),
            ("[example.org]:6200,[192.0.2.1]:6200", "192.0.2.1", true),
            ("[192.0.2.1]:6200", "[::ffff:192.0.2.1]", true),
            ("[::1]:6200", "::1", true),
            ("[*.example.org]:6200", "db.example.org", true),
            ("[*.example.org]:*,![db.example.org]:*", "db.example.org", false),
            ("*", "example.org", true),
            ("a,example.org,b", "example.org:22", true),
            ("*,!example.org", "example.org:22", false),
            ("example.?rg", "example.org:22", true),
        ] {
            let expected = if known { HostKey::Known } else { HostKey::Unknown };
            assert_eq!(
                check(format!("{names} {ED25519} me"), server, ED25519),
                expected,
                "{names} {server}"
            );
        }
    }

    /// The lines are from `ssh-keygen -H`.
    #[test]
    fn hashed_names_are_matched() {
        let text = format!(
            "|1|J29xrjhRgXljCgAdqgwpHwJmYpg=|MXvVvc3IqAY4j3DIqEbw6XVQNgw= {ED25519}\n\
             |1|IFVOSw3i61D9aLF2u5ZaCtNb4qs=|K9J6Vv3sekRWukmMAXaKF0MXQ1o= {P256}\n"
        );
        assert_eq!(check(&text, "example.org", ED25519), HostKey::Known);
        assert_eq!(check(&text, "Example.org", ED25519), HostKey::Known);
        assert_eq!(check(&text, "plain.example.org:22", P256), HostKey::Known);
        assert_eq!(check(&text, "example.org:6201", ED25519), HostKey::Unknown);
        assert!(matches!(check(&text, "example.org", P256), HostKey::Changed { line: 1, .. }));
    }

    #[test]
    fn another_key_is_a_changed_key_unless_a_line_has_this_one() {
        let stored = format!("# mine\n[a]:6200 {OTHER_ED25519}\n");
        let fingerprint = parse_key(OTHER_ED25519).unwrap().fingerprint();
        let changed = HostKey::Changed { line: 2, stored: fingerprint };
        assert_eq!(check(&stored, "a", ED25519), changed);
        assert_eq!(check(&stored, "a", P256), changed, "also when it is of another type");
        assert_eq!(check(format!("{stored}[a]:6200 {ED25519}"), "a", ED25519), HostKey::Known);
    }

    #[test]
    fn a_revoked_key_is_never_known() {
        let revoked = format!("@revoked * {ED25519}");
        assert_eq!(
            check(format!("[a]:6200 {ED25519}\n{revoked}"), "a", ED25519),
            HostKey::Revoked { line: 2 }
        );
        assert_eq!(check(&revoked, "a", OTHER_ED25519), HostKey::Unknown);
    }

    #[test]
    fn a_name_without_a_port_also_stands_for_ours_unless_a_line_has_the_port() {
        for (text, expected) in [
            (format!("a {ED25519}"), HostKey::KnownByName),
            (format!("*,!b {ED25519}"), HostKey::Known),
            (format!("*.test,a {ED25519}"), HostKey::KnownByName),
            // sshd's key is not ours.
            (format!("a {OTHER_ED25519}"), HostKey::Unknown),
            (format!("a {ED25519}\n[a]:6200 {ED25519}"), HostKey::Known),
            (format!("@revoked a {ED25519}\n[a]:6200 {ED25519}"), HostKey::Revoked { line: 1 }),
            (format!("[a]:22 {ED25519}\n[a]:6201 {ED25519}"), HostKey::Unknown),
        ] {
            assert_eq!(check(&text, "a", ED25519), expected, "{text}");
        }
        let both = format!("a {ED25519}\n[a]:6200 {OTHER_ED25519}");
        assert!(matches!(check(both, "a", ED25519), HostKey::Changed { line: 2, .. }));
    }

    #[test]
    fn lines_that_do_not_concern_us_and_broken_ones_are_passed_over() {
        let odd = format!(
            "@cert-authority * {ED25519}\n[a]:6200 {RSA}\n[a]:6200 {P384}\n\n# {ED25519}\n\
             @typo * {ED25519}\n@revoked\n@revoked @revoked * {ED25519}\n|1|AAAA {ED25519}\n\
             |2|a|b {ED25519}\na\n[a]:6200 ssh-ed25519 AAAA\n[a]:6200 sk-ssh-ed25519@openssh.com AAAA\n\
             {ED25519}\n|1|*|* {ED25519}\n[a]:6200 1024 35 1234567\n,,, {ED25519}\n"
        );
        assert_eq!(check(&odd, "a", ED25519), HostKey::Unknown);
        assert_eq!(check(format!("{odd}[a]:6200 {ED25519}"), "a", ED25519), HostKey::Known);
    }

    #[test]
    fn a_file_may_have_any_line_ends_encodings_and_lengths() {
        let line = format!("[a]:6200 {ED25519}");
        let long = format!("{}[a]:6200 {ED25519}\n", "x.test,".repeat(100_000));
        for text in [
            format!("b {P256}\r\n  {line}\r\n").into_bytes(),
            format!("\t{} comment\t", line.replace(' ', "\t ")).into_bytes(),
            [b"\xff\xfe\n\0\n".as_slice(), line.as_bytes(), b" Andr\xe9"].concat(),
            long.clone().into_bytes(),
            [long.repeat(3).replace("[a]", "[b]").as_bytes(), line.as_bytes()].concat(),
        ] {
            assert_eq!(check(&text, "a", ED25519), HostKey::Known);
        }
        // A line of over a megabyte is ignored, and the following lines keep their numbers.
        let text = format!("{}{line}\n{line}", "x".repeat(2 << 20));
        assert_eq!(
            check(format!("@revoked * {}\n", "x".repeat(2 << 20)) + &line, "a", ED25519),
            HostKey::Known
        );
        assert!(matches!(check(text, "a", P256), HostKey::Changed { line: 2, .. }));
    }

    #[test]
    fn the_line_for_a_server_makes_it_known() {
        for server in ["Example.org", "example.org:22", "[2001:db8::1]:6200", "::ffff:192.0.2.1"] {
            let parsed: ServerAddress = server.parse().unwrap();
            let line = known_hosts_line(&parsed, &parse_key(P256).unwrap());
            assert_eq!(check(&line, server, P256), HostKey::Known, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC*", names in "[@|a-z0-9=*!,\\[\\]:]{0,30}") {
            let key = parse_key(ED25519).unwrap();
            let server: ServerAddress = "a".parse().unwrap();
            let search = HostSearch::new(&server);
            search.check(text.as_bytes(), &key).unwrap();
            search.check(format!("{names} {ED25519}").as_bytes(), &key).unwrap();
        }
    }
}
