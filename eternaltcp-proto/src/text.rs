//! Text that can be shown: one line of bounded length without control characters.
//!
//! A peer chooses its texts freely. A line feed would forge a line of a log, an escape sequence
//! would move a terminal, and a control for bidirectional text would display the rest of a line in
//! another order. [`CleanText`] is cleaned when it is made, so that the code that shows it later
//! does not have to do so.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// The maximum number of bytes of a [`CleanText`].
const MAX_BYTES: usize = 400;

/// A line of at most 400 bytes without control characters: neither those of ASCII and ISO 6429 (C0,
/// DEL, C1) nor Unicode's separators of lines and paragraphs, its controls for bidirectional text,
/// or other invisible ones that change how their neighbours look. Each of them is replaced by a
/// blank.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CleanText(String);

impl CleanText {
    /// Cleans a text. Anything beyond 400 bytes is cut off between characters.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(clean(cut(text)).into_owned())
    }

    /// Cleans bytes that may not be UTF-8. Invalid ones become U+FFFD.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        // The part that is cut off below need not be converted.
        let bytes = bytes.get(..MAX_BYTES).unwrap_or(bytes);
        Self::new(&String::from_utf8_lossy(bytes))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Creates the empty text.
    #[must_use]
    pub const fn empty() -> Self {
        Self(String::new())
    }
}

impl Deref for CleanText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CleanText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for CleanText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<CleanText> for String {
    fn from(text: CleanText) -> Self {
        text.0
    }
}

impl PartialEq<str> for CleanText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for CleanText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for CleanText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CleanText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the text with a blank in place of each character that [`is_unsafe`] names.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(is_unsafe) {
        Cow::Owned(text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns whether a character can end a line, move a terminal, or change how its neighbours are
/// displayed. The joiners U+200C and U+200D are part of words in some scripts, and stay.
#[must_use]
pub const fn is_unsafe(c: char) -> bool {
    matches!(c,
        // C0, DEL and C1.
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        // Controls for bidirectional text.
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // The separators of lines and of paragraphs.
        | '\u{2028}' | '\u{2029}'
        // Invisible: the zero-width space, the byte order mark, deprecated controls of
        // shaping, annotations, and tags.
        | '\u{200b}' | '\u{feff}' | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Returns the beginning of a text, at most 400 bytes.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_forge_lines_or_control_terminals_become_blanks() {
        for (dirty, cleaned) in [
            ("plain", "plain"),
            ("", ""),
            ("a\r\nb\tc\0d", "a  b c d"),
            ("\x1b[2J\x1b]0;title\x07", " [2J ]0;title "),
            // C1: CSI, NEL, and the string terminator.
            ("a\u{9b}2Jb\u{85}c\u{9c}\x7f", "a 2Jb c  "),
            ("a\u{2028}b\u{2029}c", "a b c"),
            ("\u{202e}gnp.exe\u{202c}", " gnp.exe "),
            ("\u{202a}\u{202b}\u{202d}\u{2066}\u{2067}\u{2068}\u{2069}", "       "),
            ("\u{200e}\u{200f}\u{61c}", "   "),
            ("\u{200b}\u{feff}\u{206a}\u{fff9}\u{e0041}", "     "),
        ] {
            assert_eq!(CleanText::new(dirty), cleaned, "{dirty:?}");
        }
    }

    #[test]
    fn text_in_any_script_stays_as_it_is() {
        for text in
            ["größer", "שלום", "مرحبا", "می\u{200c}خواهم", "👩\u{200d}💻", "日本語", "a\u{a0}b"]
        {
            assert_eq!(CleanText::new(text), text);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(CleanText::new(&"ä".repeat(300)), "ä".repeat(200).as_str());
        assert_eq!(CleanText::new(&format!("x{}", "ä".repeat(300))).len(), 399);
        assert_eq!(CleanText::from_bytes(&[b'a'; 5000]).len(), 400);
        assert_eq!(CleanText::from_bytes(b"a\xffb\x1b"), "a\u{fffd}b ");
    }

    #[test]
    fn every_character_stays_itself_or_becomes_a_blank() {
        for c in '\0'..=char::MAX {
            let cleaned = CleanText::new(c.encode_utf8(&mut [0; 4]));
            let expected = if is_unsafe(c) { ' ' } else { c };
            assert!(cleaned.chars().eq([expected]), "{c:?}");
            assert!(is_unsafe(c) || !c.is_control(), "{c:?}");
        }
    }

    #[test]
    fn a_clean_text_stays_as_it_is_whatever_it_was() {
        let mut bytes = Vec::new();
        for seed in 0..2000_u32 {
            bytes.extend(seed.wrapping_mul(2_654_435_761).to_be_bytes());
            let cleaned = CleanText::from_bytes(&bytes[bytes.len().saturating_sub(500)..]);
            assert!(!cleaned.contains(is_unsafe) && cleaned.len() <= MAX_BYTES);
            assert_eq!(CleanText::new(&cleaned), cleaned);
        }
    }
}
