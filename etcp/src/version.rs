//! The version, commit and protocol of this build.

use std::sync::LazyLock;

use eternaltcp::{FEATURE_NAMES, OLDEST_VERSION, VERSION};

/// The commit of this build; empty if unknown.
const COMMIT: &str = env!("ETERNALTCP_COMMIT");

const PACKAGE: &str = env!("CARGO_PKG_VERSION");

/// Returns the text of `etcp -V` after the name, on one line.
pub(crate) fn short() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("{PACKAGE} (commit {}, protocol {})", commit(), protocol()));
    &TEXT
}

/// Returns the text of `etcp --version` after the name.
pub(crate) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let features = FEATURE_NAMES.join(", ");
        format!("{PACKAGE}\ncommit {}\nprotocol {}\nfeatures {features}", commit(), protocol())
    });
    &TEXT
}

fn commit() -> &'static str {
    match COMMIT {
        "" if cfg!(debug_assertions) => "unknown: a debug build",
        "" => "unknown",
        commit => commit,
    }
}

/// Returns the versions of the protocol that this build speaks.
fn protocol() -> String {
    if OLDEST_VERSION == VERSION {
        VERSION.to_string()
    } else {
        format!("{OLDEST_VERSION} to {VERSION}")
    }
}
