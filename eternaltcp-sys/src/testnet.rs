//! For tests: network namespaces of their own, which nobody needs to clean up.
//!
//! A test needs root and the program `ip`. Without them it is skipped, and says
//! so; with `ETERNALTCP_REQUIRE_ALL=1` a skip is a failure.

use std::io::Write;
use std::process::Command;

use rustix::thread::{UnshareFlags, gettid};
use tokio::runtime::Runtime;

use crate::testport::until_blocking;

/// The right to make namespaces.
pub struct Net(());

impl Net {
    /// `None`: the test cannot run here, and is to return.
    pub fn new(test: &str) -> Option<Self> {
        let has_ip = Command::new("ip").arg("-V").output().is_ok();
        if rustix::process::geteuid().is_root() && has_ip {
            return Some(Self(()));
        }
        let required = std::env::var_os("ETERNALTCP_REQUIRE_ALL").is_some_and(|all| all == "1");
        assert!(!required, "{test} must not be skipped, yet needs root and the program ip");
        // Not eprintln!: the harness would capture it, and nobody would see it.
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {test} needs root and ip\n");
        None
    }

    /// Runs `work` on a thread in a new namespace, its loopback up. Everything
    /// in it is gone when the thread and its sockets are.
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

/// The calling thread's namespace, as `ip link … netns` takes it.
pub fn here() -> String {
    format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid().as_raw_nonzero())
}

/// Runs `ip` with these words in the calling thread's namespace; its output.
#[track_caller]
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An interface that is up, with nothing at its other end, and no address that
/// it gives itself.
#[track_caller]
pub fn link(name: &str) {
    ip(&format!("link add {name} type veth peer name {name}x"));
    for end in [name.to_owned(), format!("{name}x")] {
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    until_up(name);
}

/// Waits until packets can pass: Linux says so up to a second later.
#[track_caller]
pub fn until_up(name: &str) {
    let show = format!("-o link show dev {name}");
    until_blocking(&format!("{name} to be up"), || ip(&show).contains(" state UP "));
}
