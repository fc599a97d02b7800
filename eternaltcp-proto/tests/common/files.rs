//! Files of the workspace with which tests compare.

use std::path::{Path, PathBuf};

/// Returns the folder of the whole workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the text of `docs/protocol.md`.
pub(crate) fn specification() -> String {
    std::fs::read_to_string(workspace().join("docs/protocol.md")).unwrap()
}

/// Compares a text with a file. With `ETERNALTCP_BLESS=1` in the environment
/// the file is written instead: look at the difference before it is kept.
pub(crate) fn snapshot(path: &Path, text: &str) {
    if std::env::var_os("ETERNALTCP_BLESS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let first = kept.lines().zip(text.lines()).find(|(kept, new)| kept != new);
    assert!(
        kept == text,
        "{} is not what the code does; ETERNALTCP_BLESS=1 writes it again. First difference: {first:#?}",
        path.display()
    );
}
