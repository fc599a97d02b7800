//! The text of a `known_hosts` file, and a server's key against it.

use base64ct::{Base64, Encoding};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{LineWarning, meaningful_lines, parse_key, pattern::matches_name_list, split_word};
use crate::{
    address::{Host, Server},
    tls::{KeyError, PublicKey},
};

/// The port whose hosts stand in the file without brackets, as for ssh.
const SSH_PORT: u16 = 22;

/// The keys that servers are known by, and what is wrong with the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownHosts {
    entries: Vec<Entry>,
    warnings: Vec<LineWarning>,
}

/// What the file says of a server's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// It is the server's.
    Known,
    /// No line names the server.
    Unknown,
    /// The server is known by another key.
    Changed {
        /// The first line that names it, counted from 1.
        line: usize,
        /// The fingerprint of the key on that line.
        stored: String,
    },
    /// The key must not be believed any more.
    Revoked {
        /// The line that says so, counted from 1.
        line: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    line: usize,
    revoked: bool,
    names: Names,
    key: PublicKey,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    /// A comma-separated list of patterns.
    List(String),
    /// HMAC-SHA1 of one name, keyed by the salt.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl KnownHosts {
    /// Reads the whole text of a file. Never fails: a broken line has no effect
    /// and stands in [`warnings`](Self::warnings). Lines for certificates and
    /// for key types that a carrier cannot use are ssh's business alone.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut known = Self::default();
        for (line, text) in meaningful_lines(text) {
            match parse_line(line, text) {
                Ok(entry) => known.entries.extend(entry),
                Err(reason) => known.warnings.push(LineWarning { line, reason }),
            }
        }
        known
    }

    /// The lines that have no effect, and why, in the order of the file.
    #[must_use]
    pub fn warnings(&self) -> &[LineWarning] {
        &self.warnings
    }

    /// Judges the key that a server has proved to hold. A revocation decides;
    /// then any line with this key makes it known, as for ssh.
    ///
    /// A server that is on file with a key of another type only is
    /// [`HostKey::Changed`], where ssh would ask: ssh asks a server for the
    /// types on file, but here the server has one key, so an unexpected type
    /// is an unexpected key.
    #[must_use]
    pub fn check(&self, server: &Server, key: &PublicKey) -> HostKey {
        let name = file_name(server);
        let named: Vec<_> =
            self.entries.iter().filter(|entry| entry.names.match_name(&name)).collect();
        if let Some(entry) = named.iter().find(|entry| entry.revoked && entry.key == *key) {
            return HostKey::Revoked { line: entry.line };
        }
        let mut stored = named.iter().filter(|entry| !entry.revoked);
        if stored.clone().any(|entry| entry.key == *key) {
            return HostKey::Known;
        }
        stored.next().map_or(HostKey::Unknown, |entry| HostKey::Changed {
            line: entry.line,
            stored: entry.key.fingerprint(),
        })
    }
}

/// The line that makes a server known by `key`, without its end.
#[must_use]
pub fn known_hosts_line(server: &Server, key: &PublicKey) -> String {
    format!("{} {key}", file_name(server))
}

/// The same with the name hashed by a salt of its own, as `HashKnownHosts` has it.
#[must_use]
pub fn hashed_known_hosts_line(server: &Server, key: &PublicKey) -> String {
    let mut salt = [0; 20];
    let random = getrandom::fill(&mut salt);
    // Without randomness the name is better told than the key lost.
    let (Ok(()), Ok(mac)) = (random, Hmac::<Sha1>::new_from_slice(&salt)) else {
        return known_hosts_line(server, key);
    };
    let hash = mac.chain_update(file_name(server)).finalize().into_bytes();
    format!("|1|{}|{} {key}", Base64::encode_string(&salt), Base64::encode_string(&hash))
}

/// How the file names a server: `host` on ssh's port, else `[host]:port`.
fn file_name(server: &Server) -> String {
    let host = Host::canonical(&server.host);
    match server.port {
        SSH_PORT => host.to_string(),
        port => format!("[{host}]:{port}"),
    }
}

/// Reads one line; `None` when it is well formed and does not concern us.
fn parse_line(number: usize, line: &str) -> Result<Option<Entry>, String> {
    let (marker, line) = if line.starts_with('@') { split_word(line) } else { ("", line) };
    let revoked = match marker {
        "" => false,
        "@revoked" => true,
        "@cert-authority" => return Ok(None),
        _ => return Err("the marker is not known (@revoked or @cert-authority)".to_owned()),
    };
    let (names, key) = split_word(line);
    let key = match parse_key(key) {
        Ok(key) => key,
        Err(KeyError::Unsupported(_)) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    Ok(Some(Entry { line: number, revoked, names: Names::parse(names)?, key }))
}

impl Names {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(hashed) = text.strip_prefix('|') else {
            return Ok(Self::List(text.to_owned()));
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

    fn check(text: &str, server: &str, key: &str) -> HostKey {
        KnownHosts::parse(text).check(&server.parse().unwrap(), &parse_key(key).unwrap())
    }

    #[test]
    fn the_names_of_a_line_are_matched_as_in_ssh() {
        for (names, server, known) in [
            ("[example.org]:6200", "example.org", true),
            ("[example.org]:6200", "EXAMPLE.org.", true),
            ("[EXAMPLE.org]:6200", "example.org", true),
            ("example.org", "example.org", false),
            ("example.org", "example.org:22", true),
            ("[example.org]:22", "example.org:22", false),
            ("[example.org]:6200,[192.0.2.1]:6200", "192.0.2.1", true),
            ("[192.0.2.1]:6200", "[::ffff:192.0.2.1]", true),
            ("[::1]:6200", "::1", true),
            ("[*.example.org]:6200", "db.example.org", true),
            ("[*.example.org]:*,![db.example.org]:*", "db.example.org", false),
            ("*", "example.org", true),
        ] {
            let expected = if known { HostKey::Known } else { HostKey::Unknown };
            assert_eq!(
                check(&format!("{names} {ED25519} me"), server, ED25519),
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
        assert_eq!(check(&format!("{stored}[a]:6200 {ED25519}"), "a", ED25519), HostKey::Known);
    }

    #[test]
    fn a_revoked_key_is_never_known() {
        let revoked = format!("@revoked * {ED25519}");
        assert_eq!(
            check(&format!("[a]:6200 {ED25519}\n{revoked}"), "a", ED25519),
            HostKey::Revoked { line: 2 }
        );
        assert_eq!(check(&revoked, "a", OTHER_ED25519), HostKey::Unknown);
    }

    #[test]
    fn lines_that_do_not_concern_us_are_passed_over_and_broken_ones_named() {
        let text = format!(
            "@cert-authority * {ED25519}\n[a]:6200 {RSA}\n[a]:6200 {P384}\n\n# {ED25519}\n"
        );
        assert_eq!(KnownHosts::parse(&text), KnownHosts::default());
        let broken = format!(
            "@typo * {ED25519}\n|1|AAAA {ED25519}\n|2|a|b {ED25519}\na\na ssh-ed25519 AAAA\n{ED25519}\n|1|*|* {ED25519}"
        );
        let lines: Vec<_> =
            KnownHosts::parse(&broken).warnings().iter().map(|warning| warning.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn the_line_for_a_server_makes_it_known() {
        for server in ["Example.org", "example.org:22", "[2001:db8::1]:6200", "::ffff:192.0.2.1"] {
            let parsed: Server = server.parse().unwrap();
            let line = known_hosts_line(&parsed, &parse_key(P256).unwrap());
            assert_eq!(check(&line, server, P256), HostKey::Known, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC*", names in "[@|a-z0-9=*!,\\[\\]:]{0,30}") {
            let key = parse_key(ED25519).unwrap();
            let server: Server = "a".parse().unwrap();
            let _ = KnownHosts::parse(&text).check(&server, &key);
            let _ = KnownHosts::parse(&format!("{names} {ED25519}")).check(&server, &key);
        }
    }
}
