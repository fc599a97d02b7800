//! Compares the documents with the program and its sources: flags and their defaults, tests, and
//! files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines with other programs' flags.
const OTHERS: [&str; 7] =
    ["cargo ", "curl ", "docker ", "jq ", "packaging/build ", "systemctl ", "useradd "];

/// The documents that name flags of etcp.
const WITH_FLAGS: [&str; 6] = [
    "README.md",
    "docs/guide.md",
    "docs/reference.md",
    "docs/logs.md",
    "docs/fleet.md",
    "examples/fleet/README.md",
];

/// The documents that name tests and files.
const WITH_NAMES: [&str; 14] = [
    "docs/architecture.md",
    "docs/failures.md",
    "docs/decisions/bounds.md",
    "docs/decisions/clients-and-servers.md",
    "docs/decisions/data-path.md",
    "docs/decisions/deaths.md",
    "docs/decisions/dependencies.md",
    "docs/decisions/etcp-run.md",
    "docs/decisions/etcp-ssh.md",
    "docs/decisions/library.md",
    "docs/decisions/packaging.md",
    "docs/decisions/policy.md",
    "docs/decisions/protocol.md",
    "docs/decisions/tls.md",
];

#[test]
fn every_flag_that_is_named_exists() {
    let known: BTreeSet<String> =
        commands().iter().flat_map(|command| flags(command).into_keys()).collect();
    for document in WITH_FLAGS {
        for (number, line) in (1..).zip(read(document).lines()) {
            if OTHERS.iter().any(|other| line.contains(other)) {
                continue;
            }
            for flag in long_flags(line) {
                assert!(known.contains(&flag), "{document}:{number}: there is no {flag}");
            }
        }
    }
}

#[test]
fn every_flag_is_described_with_its_default() {
    let text = read("docs/reference.md");
    for command in commands() {
        for (flag, default) in flags(&command) {
            let name = format!("`{flag}`");
            let mut rows =
                text.lines().filter(|line| line.starts_with('|') && line.contains(&name));
            let default = default.map(|default| format!("`{default}`")).unwrap_or_default();
            assert!(
                rows.any(|row| row.contains(&default)),
                "etcp {command}: {flag} {default} is not described in docs/reference.md"
            );
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let tests = tests();
    for document in WITH_NAMES {
        for (number, line) in (1..).zip(read(document).lines()) {
            for name in quoted(line).filter(|word| is_test_name(word)) {
                assert!(tests.contains(name), "{document}:{number}: there is no test {name}");
            }
        }
    }
}

#[test]
fn every_failure_in_the_table_is_shown_by_a_test() {
    let text = read("docs/failures.md");
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let rows: Vec<_> =
        rows.filter(|line| !line.contains("---") && !line.ends_with("| test |")).collect();
    assert!(rows.len() > 20, "the table is there");
    for row in rows {
        assert!(quoted(row).any(is_test_name), "no test is named: {row}");
    }
}

#[test]
fn every_file_that_is_named_exists() {
    for document in WITH_FLAGS.iter().chain(&WITH_NAMES) {
        for (number, line) in (1..).zip(read(document).lines()) {
            for path in quoted(line).filter(|word| word.ends_with(".rs") && word.contains('/')) {
                let is_there = ["", "eternaltcp-proto/src"]
                    .iter()
                    .any(|folder| root().join(folder).join(path).is_file());
                assert!(is_there, "{document}:{number}: there is no {path}");
            }
        }
    }
}

#[test]
fn every_log_line_that_is_described_is_in_the_sources() {
    let sources = log_sources();
    let rows = read("docs/logs.md");
    let rows = rows.lines().skip_while(|line| !line.starts_with("| line of "));
    let rows: Vec<_> = rows.filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 40, "the tables are there");
    for row in rows {
        let first = row.split(" | ").next().expect("a first column");
        for line in quoted(first) {
            let mut parts = fixed_parts(line).peekable();
            let is_checked = parts.peek().is_some();
            let is_there = parts.any(|part| sources.contains(part));
            assert!(!is_checked || is_there, "docs/logs.md: nothing logs {line:?}");
        }
    }
}

/// Returns the parts of a line that are the same whatever it reports: some words in a row.
fn fixed_parts(line: &str) -> impl Iterator<Item = &str> {
    let is_fixed = |c: char| c.is_ascii_lowercase() || " '".contains(c);
    let parts = line.split(move |c| !is_fixed(c)).map(str::trim);
    parts.filter(|part| part.contains(' ') && part.len() >= 8)
}

/// Returns the sources of the crates that log, with each string in one line.
fn log_sources() -> String {
    let folders = ["etcp/src", "eternaltcp/src", "eternaltcp-proto/src"];
    let files = folders.into_iter().flat_map(|folder| sources(&root().join(folder)));
    let texts = files.map(|file| {
        let text = std::fs::read_to_string(file).expect("it is text");
        text.split("\\\n").map(str::trim_start).collect::<String>()
    });
    texts.collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is one above")
}

fn read(document: &str) -> String {
    std::fs::read_to_string(root().join(document)).expect("the document is there")
}

/// Returns the text between backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Returns whether a word is the name of a test, which is a sentence: three words at least, and
/// nothing but words.
fn is_test_name(word: &str) -> bool {
    let is_plain = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_plain && word.matches('_').count() >= 3
}

/// Returns the long flags in a line.
fn long_flags(line: &str) -> impl Iterator<Item = String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    line.split(move |c: char| !is_flag(c))
        .filter(|word| word.starts_with("--") && word.trim_matches('-').len() > 1)
        .map(str::to_owned)
}

/// Returns the names of the commands from the help, the program itself first.
fn commands() -> Vec<String> {
    let help = help("");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next());
    let names = names.filter(|name| *name != "help").map(str::to_owned);
    let all: Vec<_> = std::iter::once(String::new()).chain(names).collect();
    assert!(all.len() > 3, "the help lists the commands: {help}");
    all
}

fn help(command: &str) -> String {
    let words = command.split_whitespace().chain(["--help"]);
    let output = Command::new(env!("CARGO_BIN_EXE_etcp")).args(words).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "etcp {command} --help");
    String::from_utf8(output.stdout).expect("the help is text")
}

/// Returns the long flags of a command, each with its default.
fn flags(command: &str) -> BTreeMap<String, Option<String>> {
    let help = help(command);
    let mut entries: Vec<(String, String)> = Vec::new();
    let options = help.lines().skip_while(|line| *line != "Options:");
    // Some follow a heading of their own.
    for line in options.filter(|line| line.starts_with(' ')) {
        let words = line.trim();
        if words.starts_with('-') {
            let flag = long_flags(words).next().unwrap_or_default();
            entries.push((flag, words.to_owned()));
        } else if let Some((_, text)) = entries.last_mut() {
            *text = format!("{text} {words}");
        }
    }
    entries.retain(|(flag, _)| !flag.is_empty());
    entries.into_iter().map(|(flag, text)| (flag, default_of(&text))).collect()
}

fn default_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("[default: ")?;
    let rest = rest.split(" [possible values").next()?;
    Some(rest.trim().trim_end_matches(']').to_owned())
}

/// Returns the names of all tests in the sources.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in sources(root()) {
        let text = std::fs::read_to_string(&file).expect("a source is text");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(name) = name.filter(|_| std::mem::take(&mut is_test)) {
                names.extend(name.split(['(', '<']).next().map(str::to_owned));
            }
        }
    }
    names
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder is read").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
