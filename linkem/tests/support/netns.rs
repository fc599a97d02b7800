//! One network namespace: created, entered, and removed.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that exists as long as this value.
pub(crate) struct TestNamespace {
    name: String,
}

impl TestNamespace {
    /// Creates the namespace; `name` is that of the test and its role in it.
    pub(crate) fn create(name: &str) -> Self {
        let name = format!("linkem-test-{}-{name}", std::process::id());
        let status = Command::new("ip").args(["netns", "add", &name]).status();
        assert!(status.expect("ip runs").success(), "cannot make the namespace {name}");
        Self { name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread inside. A socket that it creates stays in the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("it exists");
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Returns the output of `ip` here.
    pub(crate) fn ip(&self, args: &[&str]) -> String {
        let output = Command::new("ip").args(["-n", &self.name]).args(args).output();
        let output = output.expect("ip runs");
        assert!(output.status.success(), "ip {args:?} failed");
        String::from_utf8(output.stdout).expect("ip prints text")
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
