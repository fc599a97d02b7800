//! The requirements of a test. Without them the test is skipped with a message.
//!
//! With `ETERNALTCP_REQUIRE_ALL=1` a skip is a failure: a test that did not run must not look like
//! a success.

use std::io::Write;
use std::path::Path;

/// Returns whether this user is root with `ip` and TUN devices. If not, the test must return at
/// once.
///
/// # Panics
///
/// Something is missing and `ETERNALTCP_REQUIRE_ALL` is `1`.
pub(crate) fn can_run(test: &str) -> bool {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root (for network namespaces)");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("ip").is_file()) {
        missing.push("the program ip (iproute2)");
    }
    if !Path::new("/dev/net/tun").exists() {
        missing.push("/dev/net/tun");
    }
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    let required = std::env::var_os("ETERNALTCP_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(
        !required,
        "{test} must not be skipped (ETERNALTCP_REQUIRE_ALL=1), yet needs {missing}"
    );
    // Not eprintln!: the harness would capture it.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {test} needs {missing}\n");
    false
}
