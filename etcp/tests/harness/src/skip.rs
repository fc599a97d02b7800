//! What a test needs of the machine. Without it the test is skipped, and says so.
//!
//! A skip is written past the test harness's capture, and with `ETERNALTCP_REQUIRE_ALL=1`, as
//! `.ci/run` sets it, a skip is a failure: there a proof that did not run must not look like one.

use std::io::Write;
use std::path::PathBuf;

/// Whether this user is root and every one of `programs` can be found. If not, the test is to
/// return at once.
///
/// # Panics
///
/// Something is missing and `ETERNALTCP_REQUIRE_ALL` is `1`.
pub fn can_run(test: &str, programs: &[&str]) -> bool {
    has(test, programs, Vec::new())
}

/// Whether every one of `programs` can be found, for a test that any user may run. If not, the
/// test is to return at once.
///
/// # Panics
///
/// A program is missing and `ETERNALTCP_REQUIRE_ALL` is `1`.
pub fn can_find(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().filter(|program| find(program).is_none());
    decide(test, &missing.map(|program| format!("the program {program}")).collect::<Vec<_>>())
}

/// The same for a test with a link of linkem's, which needs TUN devices.
pub fn can_link(test: &str) -> bool {
    let has_tun = std::path::Path::new("/dev/net/tun").exists();
    has(test, &[], if has_tun { Vec::new() } else { vec!["/dev/net/tun".to_owned()] })
}

/// The same for a test whose programs are given another wall clock; says where libfaketime is.
pub fn can_fake_time(test: &str) -> Option<PathBuf> {
    let library = faketime();
    let missing =
        if library.is_some() { vec![] } else { vec!["libfaketime (faketime)".to_owned()] };
    has(test, &[], missing).then_some(library).flatten()
}

/// Debian has it in a folder of the machine's architecture.
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

/// Whether nothing is missing; otherwise says so, or panics where nothing may be.
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
    // Not eprintln!: the harness would capture it, and nobody would see it.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {test} needs {missing}\n");
    false
}

/// Where `program` is, also in the folders that an ordinary user's PATH lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(postgres_folders())
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Debian keeps PostgreSQL's server programs out of every PATH; the newest version comes first.
fn postgres_folders() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut folders: Vec<_> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}
