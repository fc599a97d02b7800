//! The requirements of a test. Without them the test is skipped with a message.
//!
//! A skip is written past the test harness's capture. With `ETERNALTCP_REQUIRE_ALL=1`, as `.ci/run`
//! sets it, a skip is a failure: a test that did not run must not look like a success.

use std::io::Write;
use std::path::PathBuf;

/// Returns whether this user is root and every one of `programs` exists. If not, the test must
/// return at once.
///
/// # Panics
///
/// Something is missing and `ETERNALTCP_REQUIRE_ALL` is `1`.
pub fn can_run(test: &str, programs: &[&str]) -> bool {
    has(test, programs, Vec::new())
}

/// Returns whether every one of `programs` exists, for a test that any user may run. If not, the
/// test must return at once.
///
/// # Panics
///
/// A program is missing and `ETERNALTCP_REQUIRE_ALL` is `1`.
pub fn can_find(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().filter(|program| find(program).is_none());
    decide(test, &missing.map(|program| format!("the program {program}")).collect::<Vec<_>>())
}

/// Returns whether a test with a link of linkem can run, which needs TUN devices. If not, the test
/// must return at once.
pub fn can_link(test: &str) -> bool {
    let has_tun = std::path::Path::new("/dev/net/tun").exists();
    has(test, &[], if has_tun { Vec::new() } else { vec!["/dev/net/tun".to_owned()] })
}

/// Returns the path of libfaketime for a test whose programs get another wall clock. If there is
/// none, the test must return at once.
pub fn can_fake_time(test: &str) -> Option<PathBuf> {
    let library = faketime();
    let missing =
        if library.is_some() { vec![] } else { vec!["libfaketime (faketime)".to_owned()] };
    has(test, &[], missing).then_some(library).flatten()
}

/// Returns whether this machine has no service of its own, for a test that asks every proxy of the
/// machine. If it has one, the test must return at once.
pub fn has_no_service(test: &str) -> bool {
    let has_service = std::path::Path::new("/run/eternaltcp").exists();
    let without = "a machine without a service in /run/eternaltcp".to_owned();
    decide(test, &if has_service { vec![without] } else { vec![] })
}

/// Finds the library, which Debian has in a folder of the machine's architecture.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|candidate| candidate.is_file())
}

fn has(test: &str, programs: &[&str], mut missing: Vec<String>) -> bool {
    if !rustix::process::geteuid().is_root() {
        missing.push("root (for network namespaces)".to_owned());
    }
    let tools = ["ip", "nft", "nsenter", "setpriv", "ssh-keygen"];
    for program in tools.iter().chain(programs) {
        if find(program).is_none() {
            missing.push(format!("the program {program}"));
        }
    }
    decide(test, &missing)
}

/// Returns whether nothing is missing; otherwise reports it, or panics if nothing may be missing.
fn decide(test: &str, missing: &[String]) -> bool {
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

/// Returns where `program` is, including folders that are not in an ordinary user's PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(postgres_folders())
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Returns the folders of PostgreSQL's server programs, which Debian has in no PATH. The newest version
/// comes first.
fn postgres_folders() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut folders: Vec<_> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}
