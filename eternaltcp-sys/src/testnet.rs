//! For tests: network namespaces that clean themselves up.
//!
//! A test needs root and the program `ip`. Without them it is skipped with a message; with
//! `ETERNALTCP_REQUIRE_ALL=1` a skip is a failure.

use std::io::Write;
use std::process::Command;

use rustix::thread::{UnshareFlags, gettid};
use tokio::runtime::Runtime;

use crate::testport::until_blocking;

/// Permission to make namespaces.
pub struct Net(());

impl Net {
    /// Returns `None` if the test cannot run here and must return.
    pub fn new(test: &str) -> Option<Self> {
        let has_ip = Command::new("ip").arg("-V").output().is_ok();
        if rustix::process::geteuid().is_root() && has_ip {
            return Some(Self(()));
        }
        let required = std::env::var_os("ETERNALTCP_REQUIRE_ALL").is_some_and(|all| all == "1");
        assert!(!required, "{test} must not be skipped, yet needs root and the program ip");
        // Not eprintln!: the harness would capture it.
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {test} needs root and ip\n");
        None
    }

    /// Runs `work` on a thread in a new namespace with an active loopback device. Everything in it
    /// disappears with the thread and its sockets.
    pub fn run<T: Send>(&self, work: impl FnOnce(&Runtime) -> T + Send) -> T {
        let inside = || {
            crate::unshare(UnshareFlags::NEWNET).expect("root may have a namespace");
            ip("link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            work(&runtime)
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// Returns the calling thread's namespace, in the form that `ip link … netns` takes.
pub fn here() -> String {
    format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid().as_raw_nonzero())
}

/// Runs `ip` with these words in the calling thread's namespace, and returns its output.
#[track_caller]
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Creates an interface that is up, with nothing at its other end, and without an automatic
/// address.
#[track_caller]
pub fn link(name: &str) {
    ip(&format!("link add {name} type veth peer name {name}x"));
    for end in [name.to_owned(), format!("{name}x")] {
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    until_up(name);
}

/// Waits until packets can pass: Linux reports it up to a second later.
#[track_caller]
pub fn until_up(name: &str) {
    let show = format!("-o link show dev {name}");
    until_blocking(&format!("{name} to be up"), || ip(&show).contains(" state UP "));
}
