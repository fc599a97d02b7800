//! File names as `ssh -G` reports them: separated by single spaces, without their quotes.

use std::path::{Path, PathBuf};

/// The maximum number of files that are read from one line.
const MAX_FILES: usize = 64;
/// The maximum number of words that can form one name.
const MAX_WORDS: usize = 32;

/// Splits the value of an option into file names. A space within a name is recognized because the
/// file exists, or else because no absolute path starts after it.
pub(crate) fn split(value: &str) -> Vec<PathBuf> {
    split_by(value, |path| path.exists() && !path.is_dir())
}

fn split_by(value: &str, exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let words: Vec<_> = value.split(' ').collect();
    let mut rest = &words[..];
    let mut names = Vec::new();
    while !rest.is_empty() && names.len() < MAX_FILES {
        let count = words_of_name(rest, &exists);
        let name = rest[..count].join(" ");
        // ssh reports this word if no file is read.
        if !name.is_empty() && name != "none" {
            names.push(name.into());
        }
        rest = &rest[count..];
    }
    names
}

/// Returns how many words at the front form one name.
fn words_of_name(words: &[&str], exists: impl Fn(&Path) -> bool) -> usize {
    let is_end = |count: &usize| {
        // A name in a list has no space at its start or end.
        !words[count - 1].is_empty() && words.get(*count) != Some(&"")
    };
    let mut ends = (1..=words.len().min(MAX_WORDS)).rev().filter(is_end);
    let existing = ends.find(|count| exists(Path::new(&words[..*count].join(" "))));
    existing.unwrap_or_else(|| {
        let begins = |word: &&str| word.starts_with(['/', '~']);
        words.iter().skip(1).position(begins).map_or(words.len(), |place| place + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str, existing: &[&str]) -> Vec<String> {
        let exists = |path: &Path| existing.iter().any(|name| path == Path::new(name));
        let names = split_by(value, exists);
        names.into_iter().map(|name| name.into_os_string().into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_may_have_blanks_whether_or_not_its_file_exists() {
        for (value, existing, expected) in [
            ("/a /b", &[][..], &["/a", "/b"][..]),
            ("/a /b", &["/b"], &["/a", "/b"]),
            ("/my dir/kh", &[], &["/my dir/kh"]),
            ("/my dir/kh", &["/my", "/my dir/kh"], &["/my dir/kh"]),
            ("/my  dir/kh /b", &["/my  dir/kh"], &["/my  dir/kh", "/b"]),
            ("/my  dir/kh /b", &[], &["/my  dir/kh", "/b"]),
            (
                "/a b/.ssh/known_hosts /a b/.ssh/known_hosts2",
                &[],
                &["/a b/.ssh/known_hosts", "/a b/.ssh/known_hosts2"],
            ),
            ("/my /dir/kh /b", &["/my /dir/kh"], &["/my /dir/kh", "/b"]),
            ("one two three", &["one", "two three"], &["one", "two three"]),
            ("~/g g %h", &[], &["~/g g %h"]),
            ("none", &[], &[]),
            ("", &[], &[]),
        ] {
            assert_eq!(names(value, existing), expected, "{value}");
        }
        assert_eq!(names(&"/x ".repeat(1000), &[]).len(), MAX_FILES);
        assert_eq!(names(&"x ".repeat(1000), &[]).len(), 1);
    }
}
