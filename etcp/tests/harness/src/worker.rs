//! The two processes of a proxy: the main one, which the test started and signals, and the one that
//! serves.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::process::kill_raw;
use super::wait::{PATIENCE, until, until_some};

/// Returns the process that serves for the program with this main process: its worker, or the main
/// process itself if it serves alone. Waits for a worker if there is none at the moment.
#[track_caller]
pub fn worker_of(main: u32) -> u32 {
    // A program that was just started has neither a worker nor a second thread.
    until_some("a worker", PATIENCE, || {
        existing_worker_of(main).or_else(|| serves_alone(main).then_some(main))
    })
}

/// Returns whether a program serves in its main process: a main process that only keeps the state
/// of its worker has one thread.
fn serves_alone(main: u32) -> bool {
    std::fs::read_dir(format!("/proc/{main}/task")).map_or(0, Iterator::count) > 1
}

/// Kills the process that serves, without notice, and returns which one that was.
#[track_caller]
pub fn kill_worker_of(main: u32) -> u32 {
    until_some("a worker to kill", PATIENCE, || {
        let worker = worker_of(main);
        // It may have ended since it was found.
        kill_raw(worker, Signal::KILL).ok().map(|()| worker)
    })
}

/// Returns the worker of a main process, if it has one now. After an upgrade it is the child of another
/// holder, which is the main process's child.
pub fn existing_worker_of(main: u32) -> Option<u32> {
    let is_worker =
        |process: &u32| name_of(*process).as_deref() == Some("etcp: worker") && is_there(*process);
    let children = children_of(main);
    let below = || children.iter().flat_map(|child| children_of(*child)).find(is_worker);
    children.iter().copied().find(is_worker).or_else(below)
}

/// Waits until everything is in the log that a program has logged so far: its log has a writer of
/// its own, which runs later on a busy machine.
#[track_caller]
pub fn wait_for_log_of(main: u32) {
    until("the log to be written", PATIENCE, || !is_logging(main));
}

/// Returns whether a thread of a program, or of a process below it, has log lines to write. It
/// sleeps when it has none. A thread that was just started has no name yet, and has used no
/// processor time.
fn is_logging(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let stats = threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("stat")));
    let is_busy = |stat: String| {
        let (name, fields) = stat.split_once(" (")?.1.rsplit_once(") ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        // The user and system times in ticks, as in proc_pid_stat(5).
        let is_new = fields.get(11..13) == Some(&["0", "0"]);
        Some(["R", "D"].contains(fields.first()?) && (name == "log" || is_new))
    };
    stats.flatten().any(|stat| is_busy(stat) == Some(true))
        || children_of(process).into_iter().any(is_logging)
}

fn children_of(process: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Returns both processes, the main one first; one of them if that one serves.
pub fn processes_of(main: u32) -> Vec<u32> {
    [main].into_iter().chain(existing_worker_of(main)).collect()
}

fn name_of(process: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Returns whether a process runs, rather than only waits to be reaped. Its first thread may end
/// before the others, which have its descriptors, too.
pub fn is_there(process: u32) -> bool {
    let state = state_of(format!("/proc/{process}/stat").as_ref());
    let threads = || std::fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count);
    state.is_some_and(|state| !"ZX".contains(state) || threads() > 1)
}

/// Returns the state that a `stat` file of a process or thread shows.
fn state_of(stat: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(stat).ok()?;
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

/// Returns whether all threads of a process are stopped.
pub fn is_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        status.is_ok_and(|status| status.contains("State:\tT"))
    })
}

/// Returns the resident memory of both processes in bytes. Pages that both have count twice.
pub fn memory_of(main: u32) -> u64 {
    sum_of(main, "status", "VmRSS:")
}

/// Returns the memory of both processes in bytes, in which a page that several processes have is divided
/// among them. Only root may ask.
pub fn share_of_memory(main: u32) -> u64 {
    sum_of(main, "smaps_rollup", "Pss:")
}

/// Returns the sum of a field of a file about both processes, in bytes.
fn sum_of(main: u32, file: &str, field: &str) -> u64 {
    let kilobytes = |process: u32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let found: Vec<_> = processes_of(main).into_iter().filter_map(kilobytes).collect();
    assert!(!found.is_empty(), "process {main} runs, and shows its memory");
    found.into_iter().sum::<u64>() * 1024
}

/// Returns the folder of the descriptors that both processes share.
pub fn descriptors_of(main: u32) -> PathBuf {
    format!("/proc/{main}/fd").into()
}
