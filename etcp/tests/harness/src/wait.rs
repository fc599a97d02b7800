//! Waiting for a condition, with a deadline, instead of sleeping and hoping.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Interval between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// The longest time that a working operation may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Checks `condition` until it returns a value, and panics with `what` after `limit`.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "after {limit:?} still waiting for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Checks `condition` until it is true, at most for `limit`. Returns whether it became true.
pub fn comes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Checks `condition` until it is true, and panics with `what` after `limit`.
#[track_caller]
pub fn until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(comes_true(limit, condition), "after {limit:?} still waiting for {what}");
}

/// Waits for a program's own end, and returns the output of its pipes. A program that has not ended
/// after [`PATIENCE`] is killed, and the test fails.
#[track_caller]
pub fn end_of(child: Child) -> Output {
    let id = Pid::from_child(&child);
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let Ok(output) = end.recv_timeout(PATIENCE) else {
        let _ = kill_process(id, Signal::KILL);
        let output = end.recv().map(|output| output.expect("it is our child"));
        panic!("after {PATIENCE:?} it had not ended: {output:?}");
    };
    output.expect("it is our child")
}

/// Starts a program, and waits for its end as [`end_of`] does. Its stderr is a pipe.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    end_of(command.stderr(Stdio::piped()).spawn().expect("it can be started"))
}
