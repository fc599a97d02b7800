//! The last safeguard of the log: no value can end a line or control a terminal.
//!
//! Texts of peers are already clean ([`eternaltcp::CleanText`]). This covers everything else: file
//! names, errors of the system, and values that were forgotten.

use std::borrow::Cow;
use std::fmt::Write as _;

use eternaltcp::{clean, is_unsafe};

/// Appends a text, cleaned.
pub(super) fn push_clean(line: &mut String, text: &str) {
    line.push_str(&clean(text));
}

/// Returns JSON in which all characters that a terminal might obey are escaped. The line end stays.
pub(crate) fn escape_json(json: &str) -> Cow<'_, str> {
    let is_foreign = |c: char| is_unsafe(c) && c != '\n';
    if !json.contains(is_foreign) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_foreign(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same_when_it_is_escaped() {
        let text = "a\u{9b}2J\u{202e}\u{2028}\u{e0041}\x7f ü\u{200d}";
        let json = format!("{}\n", serde_json::to_string(text).unwrap());
        let escaped = escape_json(&json);
        assert!(!escaped.trim_end().contains(is_unsafe), "{escaped:?}");
        assert!(escaped.contains(r"\u009b2J\u202e\u2028\udb40\udc41\u007f ü"), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
