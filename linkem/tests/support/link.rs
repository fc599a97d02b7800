//! A running linkem between two namespaces.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::netns::TestNamespace;
use super::until;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_linkem");

/// The link; the left end is 10.73.0.1 and fd73::1, the right one 10.73.0.2 and fd73::2.
pub(crate) struct EmulatedLink {
    process: Child,
    stdin: Option<ChildStdin>,
    folder: TempDir,
    pub(crate) left: TestNamespace,
    pub(crate) right: TestNamespace,
}

impl EmulatedLink {
    /// Starts it with `settings`, and returns when packets pass.
    pub(crate) fn start(test: &str, settings: &[&str]) -> Self {
        let left = TestNamespace::create(&format!("{test}-left"));
        let right = TestNamespace::create(&format!("{test}-right"));
        let folder = TempDir::new().expect("a folder can be made");
        let mut command = Command::new(PROGRAM);
        command.arg("--left").arg(format!("{}:left=10.73.0.1/24,fd73::1/64", left.name()));
        command.arg("--right").arg(format!("{}:right=10.73.0.2/24,fd73::2/64", right.name()));
        command.arg("--control").arg(folder.path().join("control")).arg("--exit-with-stdin");
        command.args(settings).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("linkem runs");
        let stdin = process.stdin.take();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        let link = Self { process, stdin, folder, left, right };
        let mut line = String::new();
        stdout.read_line(&mut line).expect("linkem speaks");
        assert_eq!(line, "ready\n");
        link
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Runs `linkem ctl`.
    pub(crate) fn ctl(&self, request: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg("ctl").arg(self.control()).args(request).output().expect("linkem runs")
    }

    #[track_caller]
    pub(crate) fn set(&self, settings: &[&str]) {
        let output = self.ctl(&[&["set"], settings].concat());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"ok\n");
    }

    pub(crate) fn show(&self) -> Value {
        let output = self.ctl(&["show"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("show prints JSON")
    }

    /// Returns a counter of a direction.
    pub(crate) fn count(&self, direction: &str, counter: &str) -> u64 {
        let value = &self.show()[direction]["counters"][counter];
        value.as_u64().unwrap_or_else(|| panic!("no counter {counter}"))
    }

    /// Waits until a counter of a direction has reached `least`.
    #[track_caller]
    pub(crate) fn wait_for(&self, direction: &str, counter: &str, least: u64) {
        let what = format!("{least} {counter} {direction}");
        until(&what, || self.count(direction, counter) >= least);
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has ended by itself, and returns whether it succeeded.
    #[track_caller]
    pub(crate) fn has_succeeded(&mut self) -> bool {
        let mut status = None;
        until("the end of linkem", || {
            status = self.process.try_wait().expect("it is our child");
            status.is_some()
        });
        status.is_some_and(|status| status.success())
    }
}

impl Drop for EmulatedLink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
