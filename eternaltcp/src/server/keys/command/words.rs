//! The arguments of a command.

use eternaltcp_tls::PublicKey;

/// An argument, with tokens that stand for parts of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word(String);

impl Word {
    /// Checks the tokens of an argument.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                continue;
            }
            match letters.next() {
                Some('u' | 'k' | 't' | 'f' | '%') => {}
                Some(other) => {
                    return Err(format!("%{other} is unknown: there are %u, %k, %t, %f and %%"));
                }
                None => return Err("a % is written %%".to_owned()),
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the argument as its user wrote it.
    pub(super) fn written(&self) -> &str {
        &self.0
    }

    /// Returns the argument for a key; `user` is the user of this process.
    pub(super) fn expand(&self, key: &PublicKey, user: &str) -> String {
        let line = key.to_string();
        let mut parts = line.split(' ');
        let (kind, base64) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (mut expanded, mut letters) = (String::new(), self.0.chars());
        while let Some(letter) = letters.next() {
            match (letter, letter == '%') {
                (_, true) => match letters.next() {
                    Some('u') => expanded += user,
                    Some('k') => expanded += base64,
                    Some('t') => expanded += kind,
                    Some('f') => expanded += &key.fingerprint().to_string(),
                    _ => expanded.push('%'),
                },
                (letter, false) => expanded.push(letter),
            }
        }
        expanded
    }
}

/// Splits a line at spaces outside quotes. A backslash keeps the next character's meaning off.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => {
                let escaped = letters.next().ok_or("the command ends with a backslash")?;
                word.get_or_insert_default().push(escaped);
            }
            (' ' | '\t', None) => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eternaltcp_tls::Identity;

    #[test]
    fn a_line_is_split_outside_quotes() {
        let words = |line| split(line).map(|words| words.join("|"));
        assert_eq!(
            words(r#"/a  b 'c d' "e \" f" g\ h ''"#),
            Ok(r#"/a|b|c d|e " f|g h|"#.to_owned())
        );
        assert_eq!(words(" "), Ok(String::new()));
        assert!(words("/a 'b").is_err() && words("/a \\").is_err());
    }

    #[test]
    fn tokens_stand_for_parts_of_the_key() {
        let key = Identity::generate().unwrap().public_key();
        let expand = |text: &str| Word::parse(text).map(|word| word.expand(&key, "ann"));
        assert_eq!(expand("%t %k"), Ok(key.to_string()));
        assert_eq!(expand("%f"), Ok(key.fingerprint().to_string()));
        assert_eq!(expand("%u=100%%"), Ok("ann=100%".to_owned()));
        assert!(expand("%h").is_err() && expand("100%").is_err());
    }
}
