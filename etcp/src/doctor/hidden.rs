//! Names and addresses that a report does not show.

use std::net::{IpAddr, SocketAddr};

use std::cell::RefCell;

/// The words that are replaced, and their placeholders. Addresses are found by their form.
#[derive(Debug)]
pub(super) struct HiddenWords {
    is_hiding: bool,
    words: Vec<(String, String)>,
    /// The addresses that were met, in the order of their numbers.
    addresses: RefCell<Vec<IpAddr>>,
}

impl HiddenWords {
    pub(super) fn new(is_hiding: bool) -> Self {
        Self { is_hiding, words: Vec::new(), addresses: RefCell::default() }
    }

    /// Adds a word, which becomes `KIND-N`. Addresses need not be added.
    pub(super) fn add(&mut self, kind: &'static str, word: &str) {
        let is_known = self.words.iter().any(|(known, _)| known.eq_ignore_ascii_case(word));
        if word.is_empty() || is_known || word.parse::<IpAddr>().is_ok() {
            return;
        }
        let of_kind = self.words.iter().filter(|(_, shown)| shown.starts_with(kind)).count();
        self.words.push((word.to_owned(), format!("{kind}-{}", of_kind + 1)));
        // A longer word may contain a shorter one.
        self.words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
    }

    /// Returns the text with placeholders, if names are hidden.
    pub(super) fn replace(&self, text: &str) -> String {
        if !self.is_hiding {
            return text.to_owned();
        }
        let mut text = without_key_names(text);
        for (word, shown) in &self.words {
            text = replace_word(&text, word, shown);
        }
        self.replace_addresses(&text)
    }

    fn replace_addresses(&self, text: &str) -> String {
        let is_part = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
        let mut shown = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_part) {
            shown += &rest[..start];
            let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |end| start + end);
            let (token, tail) = split_tail(&rest[start..end]);
            shown += &self.address(token).unwrap_or_else(|| token.to_owned());
            shown += tail;
            rest = &rest[end..];
        }
        shown + rest
    }

    /// Returns the placeholder of an address, with its port if it has one.
    fn address(&self, token: &str) -> Option<String> {
        if let Ok(ip) = token.parse::<IpAddr>() {
            return Some(self.number(ip));
        }
        let address: SocketAddr = token.parse().ok()?;
        Some(format!("{}:{}", self.number(address.ip()), address.port()))
    }

    fn number(&self, ip: IpAddr) -> String {
        let mut known = self.addresses.borrow_mut();
        let at = known.iter().position(|it| *it == ip).unwrap_or_else(|| {
            known.push(ip);
            known.len() - 1
        });
        format!("ADDRESS-{}", at + 1)
    }
}

/// Removes the names of keys, which follow their fingerprints in parentheses: they may be those of
/// people and machines.
fn without_key_names(text: &str) -> String {
    let mut parts = text.split("SHA256:");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !(c.is_alphanumeric() || "+/=".contains(c)));
        let (fingerprint, rest) = part.split_at(end.unwrap_or(part.len()));
        let name_end = rest.strip_prefix(" (").and_then(|name| name.find(')'));
        shown += "SHA256:";
        shown += fingerprint;
        shown += name_end.map_or(rest, |end| &rest[" (".len() + end + 1..]);
    }
    shown
}

/// Separates punctuation at the end of a token.
fn split_tail(token: &str) -> (&str, &str) {
    // `::` may end an address.
    let trimmed = token.trim_end_matches('.');
    let trimmed = match trimmed.strip_suffix(':') {
        Some(front) if !front.ends_with(':') => front,
        _ => trimmed,
    };
    token.split_at(trimmed.len())
}

/// Replaces a word where it is not a part of a longer one.
fn replace_word(text: &str, word: &str, shown: &str) -> String {
    let is_inner = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.to_ascii_lowercase().find(&word.to_ascii_lowercase()) {
        let (front, tail) = (&rest[..at], &rest[at + word.len()..]);
        let before = front.chars().next_back().or_else(|| done.chars().next_back());
        done += front;
        let is_part = is_inner(before) || is_inner(tail.chars().next());
        done += if is_part { &rest[at..at + word.len()] } else { shown };
        rest = tail;
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_become_placeholders_that_stay_the_same() {
        let mut hidden = HiddenWords::new(true);
        hidden.add("HOST", "db");
        hidden.add("HOST", "db.example.org");
        hidden.add("HOST", "DB");
        for (text, expected) in [
            ("db.example.org: 192.0.2.7, 2001:db8::1.", "HOST-2: ADDRESS-1, ADDRESS-2."),
            ("192.0.2.7:6200 and [2001:db8::1]:6200", "ADDRESS-1:6200 and [ADDRESS-2]:6200"),
            ("db: adb, db2, (DB)", "HOST-1: adb, db2, (HOST-1)"),
            ("knows SHA256:a+/1 (/home/ann/key), SHA256:b", "knows SHA256:a+/1, SHA256:b"),
            ("version 6.1.0: facade after 3.5 ms", "version 6.1.0: facade after 3.5 ms"),
        ] {
            assert_eq!(hidden.replace(text), expected);
        }
        assert_eq!(HiddenWords::new(false).replace("192.0.2.7"), "192.0.2.7");
    }
}
