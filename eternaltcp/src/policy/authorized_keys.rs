//! The text of an `authorized_keys` file.

use std::sync::Arc;

use eternaltcp_proto::CleanText;
use jiff::tz::TimeZone;

use super::{
    LineWarning, is_key_type,
    key_options::{KeyOptions, split_options},
    meaningful_lines, parse_key, split_word,
};
use eternaltcp_tls::PublicKey;

/// The keys that a server admits, and their conditions: the entries of an `authorized_keys` file in
/// order, and the faults in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizedKeys {
    entries: Vec<KeyEntry>,
    /// The indices of the entries, sorted by key, and for one key in the order of the file: each
    /// tunnel's key is looked up every second.
    by_key: Vec<usize>,
    warnings: Vec<LineWarning>,
}

/// One line with a usable key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyEntry {
    pub(super) line: usize,
    pub(super) key: PublicKey,
    /// The comment behind the key, if there is one.
    pub(super) name: Option<Arc<str>>,
    /// The options, or the reason why the line admits nobody.
    pub(super) terms: Result<KeyOptions, String>,
}

impl AuthorizedKeys {
    /// Parses the whole text of a file. Never fails: an unusable line admits nobody and appears in
    /// [`warnings`](Self::warnings).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let zone = TimeZone::system();
        let mut keys = Self::default();
        for (line, text) in meaningful_lines(text) {
            match parse_line(text, &zone) {
                Ok(KeyLine { key, name, terms }) => {
                    if let Err(reason) = &terms {
                        keys.warn(line, format!("{reason}; the line admits nobody"));
                    }
                    keys.entries.push(KeyEntry { line, key, name, terms });
                }
                Err(reason) => keys.warn(line, reason),
            }
        }
        keys.by_key = (0..keys.entries.len()).collect();
        keys.by_key.sort_by_key(|place| &keys.entries[*place].key);
        keys
    }

    /// Returns the lines that admit nobody, with the reasons, in the order of the file.
    #[must_use]
    pub fn warnings(&self) -> &[LineWarning] {
        &self.warnings
    }

    /// Returns how many lines hold a usable key.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether nobody can be admitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entries_of<'a>(
        &'a self,
        key: &'a PublicKey,
    ) -> impl Iterator<Item = &'a KeyEntry> {
        let entry = |place: &usize| &self.entries[*place];
        let start = self.by_key.partition_point(|place| entry(place).key < *key);
        self.by_key[start..].iter().map(entry).take_while(move |entry| entry.key == *key)
    }

    /// Returns the lines of a text that have this key, whether they admit it or not.
    pub(crate) fn lines_about(text: &str, key: &PublicKey) -> String {
        let is_about = |line: &str| parse_line(line, &TimeZone::UTC).is_ok_and(|it| it.key == *key);
        let lines = meaningful_lines(text).map(|(_, line)| line).filter(|line| is_about(line));
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn warn(&mut self, line: usize, reason: String) {
        self.warnings.push(LineWarning { line, reason });
    }
}

/// The parts of a line.
struct KeyLine {
    key: PublicKey,
    name: Option<Arc<str>>,
    terms: Result<KeyOptions, String>,
}

fn parse_line(line: &str, zone: &TimeZone) -> Result<KeyLine, String> {
    let (options, key) = if is_key_type(split_word(line).0) {
        (None, line)
    } else {
        let (options, key) = split_options(line).ok_or("a quote is not closed")?;
        (Some(options), key)
    };
    let name = comment(key);
    let key = parse_key(key).map_err(|error| error.to_string())?;
    let terms =
        options.map_or_else(|| Ok(KeyOptions::none()), |text| KeyOptions::parse(text, zone));
    Ok(KeyLine { key, name, terms })
}

/// Returns the comment of a key's text, as one clean line.
fn comment(key: &str) -> Option<Arc<str>> {
    let (_, rest) = split_word(key);
    let (_, comment) = split_word(rest);
    let comment = CleanText::new(comment.trim());
    (!comment.is_empty()).then(|| comment.as_str().into())
}

#[cfg(test)]
mod tests {
    use super::{super::test_keys::*, *};
    use proptest::prelude::*;

    #[test]
    fn keys_with_and_without_options_and_comments_are_read() {
        let text = format!(
            "# a comment\n\n{ED25519}\n  restrict,port-forwarding\t{P256} Ann Example\r\n{ED25519} some comment"
        );
        let keys = AuthorizedKeys::parse(&text);
        assert_eq!(keys.warnings(), []);
        let lines: Vec<_> = keys.entries.iter().map(|entry| entry.line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }

    #[test]
    fn the_lines_of_a_key_are_found_in_their_order() {
        let lines = [ED25519, P256, OTHER_ED25519, ED25519, P256, "# nothing", ED25519];
        let keys = AuthorizedKeys::parse(&lines.join("\n"));
        for (key, expected) in
            [(ED25519, &[1, 4, 7][..]), (P256, &[2, 5]), (OTHER_ED25519, &[3]), (P384, &[])]
        {
            let Ok(key) = parse_key(key) else { continue };
            let lines: Vec<_> = keys.entries_of(&key).map(|entry| entry.line).collect();
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn each_line_that_cannot_be_used_is_named() {
        let text = format!(
            "{RSA}\nnot a key\ncommand=\"ls\" {ED25519}\n{P384}\nfrom=\"x {ED25519}\nsk-ssh-ed25519@openssh.com AAAA\nssh-ed25519"
        );
        let keys = AuthorizedKeys::parse(&text);
        let lines: Vec<_> = keys.warnings().iter().map(|warning| warning.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(keys.len(), 1, "a line with command= is known, and admits nobody");
        for index in [0, 3, 5] {
            let reason = &keys.warnings()[index].reason;
            assert!(reason.contains("use ssh-ed25519 or ecdsa-sha2-nistp256"), "{reason}");
        }
        assert!(keys.warnings()[2].reason.ends_with("admits nobody"));
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC*", lines in "([a-z=\",\\\\ ]{0,20}(ssh-ed25519)? ?[A-Za-z0-9+/= ]{0,70}\n){0,5}") {
            let _ = AuthorizedKeys::parse(&text);
            let _ = AuthorizedKeys::parse(&lines);
        }
    }
}
