//! `etcp demo` in a pipe: it proves what it should, in time.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The time in which the demo promises to end.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs of the demo, at most: in its time, a busy machine may not see all the deaths of its plan.
const RUNS: usize = 3;

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcp"));
    command.arg("demo").env_remove("RUST_LOG").env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

#[test]
fn the_demo_proves_itself_in_a_pipe_within_its_time_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a folder can be made");
    let (mut shown, mut logged) = (String::new(), String::new());
    let is_proved = (0..RUNS).any(|_| {
        let (start, output) = (Instant::now(), demo(temporary.path()).output());
        let (output, took) = (output.expect("etcp starts"), start.elapsed());
        assert!(took < LIMIT, "it took {took:?}");
        shown = String::from_utf8(output.stdout).expect("the demo prints text");
        logged = String::from_utf8_lossy(&output.stderr).into_owned();
        let (status, was_short) = (output.status, logged.contains("the demo failed: only "));
        assert!(status.success() || was_short, "{status:?}\n{shown}\n{logged}");
        status.success() && shown.contains("\nOK: 14 ")
    });
    assert!(is_proved, "{shown}\n{logged}");
    let is_plain = |text: char| text == '\n' || !text.is_control();
    assert!(shown.chars().all(is_plain), "control characters in {shown:?}");
    for kind in [
        "reset",
        "orderly close",
        "cut inside a TLS record",
        "silence both ways",
        "silence one way",
    ] {
        // The line appears once during the demo, and once in the table.
        assert!(shown.matches(kind).count() >= 2, "no {kind:?} in\n{shown}");
    }
    let last = shown.lines().last().unwrap_or_default();
    assert!(last.starts_with("OK: 14 carriers died in 5 ways"), "{shown}");
    let left = std::fs::read_dir(temporary.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "the keys of the demo are still there");
}

#[test]
fn an_interrupted_demo_has_not_failed_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a folder can be made");
    let mut demo = Command::new("env")
        // A shell without job control starts the tests with this signal ignored.
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_etcp"), "demo"])
        .env_remove("RUST_LOG")
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcp starts");
    let mut shown = BufReader::new(demo.stdout.take().expect("it is a pipe")).lines();
    shown.next().expect("it begins").expect("it is text");
    kill_process(Pid::from_child(&demo), Signal::INT).expect("it runs");
    let rest: Vec<_> = shown.map(|line| line.expect("it is text")).collect();
    let mut logged = String::new();
    demo.stderr.take().expect("it is a pipe").read_to_string(&mut logged).expect("it is text");
    assert_eq!(demo.wait().expect("it ends").code(), Some(130), "{rest:?} {logged}");
    assert!(!logged.contains("failed") && !rest.iter().any(|line| line == "FAILED"), "{rest:?}");
    let left = std::fs::read_dir(temporary.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "the keys of the demo are still there");
}

#[test]
fn a_demo_that_cannot_be_shown_fails_at_once() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("every system has it");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_etcp"));
    let output = demo.arg("demo").stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let output = output.spawn().and_then(std::process::Child::wait_with_output);
    let output = output.expect("etcp starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("etcp: cannot write to stdout: No space left"), "{said}");
}
