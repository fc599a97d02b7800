//! Faults in configuration files, with their positions.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A place in a configuration file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ConfigPlace {
    path: PathBuf,
    /// The line and the column, in characters, counted from 1; `None`: the whole file.
    at: Option<(usize, usize)>,
}

impl ConfigPlace {
    /// Returns the place that stands for a whole file or folder.
    pub(super) fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), at: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the place of the byte `offset` of a file with this text.
    pub(super) fn of(path: &Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        Self { path: path.to_owned(), at: Some((line, before[start..].chars().count() + 1)) }
    }

    /// Returns whether both are on the same line of one file.
    pub(super) fn shares_line(&self, other: &Self) -> bool {
        self.path == other.path && self.at.map(|at| at.0) == other.at.map(|at| at.0)
    }
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.at {
            Some((line, column)) => write!(f, "{path}:{line}:{column}"),
            None => write!(f, "{path}"),
        }
    }
}

/// A fault in a configuration file: its place, what is wrong, and what to do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ConfigFault {
    place: ConfigPlace,
    text: String,
}

impl ConfigFault {
    pub(crate) fn new(place: ConfigPlace, text: impl Into<String>) -> Self {
        Self { place, text: text.into() }
    }

    /// Returns the fault as one of a server that has a table.
    pub(super) fn of_server(self, name: &str) -> Self {
        Self { text: format!("server {name}: {}", self.text), ..self }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// The maximum number of faults of a file that are reported. The others are reported once these are
/// corrected.
pub(super) const MAX_FAULTS: usize = 100;

/// The size of a block whose characters are counted once, in bytes.
const BLOCK: usize = 1024;

/// A file, and the faults that were found in it so far.
pub(super) struct FaultList<'a> {
    path: &'a Path,
    text: &'a str,
    /// The offsets at which lines begin, except for the first one. A file may have many lines.
    lines: Vec<usize>,
    /// The number of characters before each block of [`BLOCK`] bytes. A line may be long.
    blocks: Vec<usize>,
    faults: Vec<ConfigFault>,
    /// The server whose table is being read.
    server: Option<String>,
}

impl<'a> FaultList<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let mut sum = 0;
        let blocks = text.as_bytes().chunks(BLOCK).map(|block| {
            let before = sum;
            sum += count_characters(block);
            before
        });
        let blocks = blocks.collect();
        Self { path, text, lines, blocks, faults: Vec::new(), server: None }
    }

    /// Returns the place of a part of the text.
    pub(super) fn place(&self, span: &Range<usize>) -> ConfigPlace {
        let at = span.start.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).map_or(0, |line| self.lines[line]);
        let column = self.characters_before(at) - self.characters_before(start) + 1;
        ConfigPlace { path: self.path.to_owned(), at: Some((line + 1, column)) }
    }

    /// Returns the number of characters that begin before an offset.
    fn characters_before(&self, offset: usize) -> usize {
        // At the end of a text, its last block may be full.
        let block = (offset / BLOCK).min(self.blocks.len().saturating_sub(1));
        let counted = self.blocks.get(block).copied().unwrap_or_default();
        counted + count_characters(&self.text.as_bytes()[block * BLOCK..offset])
    }

    /// Returns whether further faults are not told.
    pub(super) fn is_full(&self) -> bool {
        self.faults.len() >= MAX_FAULTS
    }

    /// Names the server whose table the next faults are in.
    pub(super) fn enter(&mut self, server: Option<&str>) {
        self.server = server.map(str::to_owned);
    }

    /// Adds a fault at the start of `span`. On a line with a syntax error, other faults may only
    /// follow from it, and are left out.
    pub(super) fn add(&mut self, span: &Range<usize>, text: impl Into<String>) {
        let place = self.place(span);
        if !self.is_full() && !self.faults.iter().any(|fault| fault.place.shares_line(&place)) {
            let text = match &self.server {
                Some(name) => format!("server {name}: {}", text.into()),
                None => text.into(),
            };
            self.faults.push(ConfigFault::new(place, text));
        }
    }

    pub(super) fn has_at_line_of(&self, span: &Range<usize>) -> bool {
        let place = self.place(span);
        self.faults.iter().any(|fault| fault.place.shares_line(&place))
    }

    pub(super) fn into_faults(self) -> Vec<ConfigFault> {
        self.faults
    }
}

/// Returns the number of characters that begin in a part of a text.
fn count_characters(part: &[u8]) -> usize {
    // The other bytes of a character are 0b10xx_xxxx.
    part.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_1() {
        let at = |offset| ConfigPlace::of(Path::new("x"), "a = 1\nü = 2\n", offset).to_string();
        assert_eq!((at(0), at(4), at(6)), ("x:1:1".into(), "x:1:5".into(), "x:2:1".into()));
        assert_eq!((at(11), at(99)), ("x:2:5".into(), "x:3:1".into()));
        assert_eq!(ConfigPlace::whole(Path::new("/a/b")).to_string(), "/a/b");
        let text = "a = 1\nü = 2\n";
        let list = FaultList::new(Path::new("x"), text);
        for offset in [0, 4, 5, 6, 8, 11, 12, 13, 99] {
            let one = ConfigPlace::of(Path::new("x"), text, offset);
            assert_eq!(list.place(&(offset..offset)), one, "{offset}");
        }
    }

    #[test]
    fn a_place_in_a_long_line_is_found_as_any_other() {
        for text in ["ü = 1, ".repeat(1000), "x".repeat(BLOCK), String::new()] {
            let list = FaultList::new(Path::new("x"), &text);
            for offset in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let one = ConfigPlace::of(Path::new("x"), &text, offset);
                assert_eq!(list.place(&(offset..offset)), one, "{offset}");
            }
        }
    }

    #[test]
    fn a_file_with_thousands_of_faults_tells_the_first() {
        let text = "wrong = 1\n".repeat(20_000);
        let mut list = FaultList::new(Path::new("x"), &text);
        (0..20_000).for_each(|line| list.add(&(line * 10..line * 10), "there is no such key"));
        let faults = list.into_faults();
        assert_eq!(faults.len(), MAX_FAULTS);
        assert_eq!(faults[MAX_FAULTS - 1].to_string(), "x:100:1: there is no such key");
    }
}
