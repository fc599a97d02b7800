//! Each MUST of `docs/protocol.md` has an id, and a test somewhere in the
//! workspace that names it.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::files::{specification, workspace};

/// Returns the ids in a text: capitals, a dash and a number, in brackets.
fn ids(text: &str) -> Vec<String> {
    let is_id = |inner: &str| {
        inner.split_once('-').is_some_and(|(name, number)| {
            !name.is_empty()
                && !number.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_uppercase())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let opened = text.split('[').skip(1);
    let inner = opened.filter_map(|rest| rest.split_once(']').map(|(inner, _)| inner));
    inner.filter(|inner| is_id(inner)).map(str::to_owned).collect()
}

/// Returns the paragraphs and list items of a document.
fn paragraphs(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        if line.is_empty() || line.starts_with("- ") {
            all.push(String::new());
        }
        if let Some(last) = all.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    all
}

/// Finds every `*.rs` below a folder, except build results.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).expect("a folder of the workspace");
    for entry in entries {
        let path = entry.expect("its entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Returns the ids that the comments of the workspace name.
fn named() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&workspace(), &mut files);
    let mut all = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source");
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//"));
        all.extend(comments.flat_map(ids));
    }
    all
}

/// Returns the ids that the specification defines: each begins an item, in bold.
fn defined() -> Vec<String> {
    let text = specification();
    let items = text.lines().filter_map(|line| line.strip_prefix("- **"));
    items.flat_map(|item| ids(item.split_once("**").map_or(item, |(id, _)| id))).collect()
}

#[test]
fn every_must_has_an_id_and_every_id_a_must() {
    for paragraph in paragraphs(&specification()).iter().skip(1) {
        let has_id = paragraph.starts_with("- **[");
        let is_about_the_word = paragraph.contains("A sentence with MUST");
        assert_eq!(has_id, paragraph.contains("MUST") && !is_about_the_word, "{paragraph}");
    }
    let all = defined();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(all.len(), distinct.len(), "an id stands twice");
}

#[test]
fn every_id_is_named_by_a_test_and_every_name_is_an_id() {
    let defined: BTreeSet<String> = defined().into_iter().collect();
    let named = named();
    let unproven: Vec<&String> = defined.difference(&named).collect();
    assert!(unproven.is_empty(), "no test names {unproven:?}");
    let unknown: Vec<&String> = named.difference(&defined).collect();
    assert!(unknown.is_empty(), "docs/protocol.md has no {unknown:?}");
    let referred = ids(&specification()).into_iter().filter(|id| !defined.contains(id));
    assert_eq!(referred.count(), 0, "the specification refers to what is not there");
}
