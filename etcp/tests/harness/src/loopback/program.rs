//! One running program, its log, and its end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::PATIENCE;
use super::socket::SetAtEnd;
use crate::pair::etcp as etcp_program;
use crate::process::{DEFAULT_SIGNALS, kill_raw};
use crate::wait::{until, until_some};
use crate::worker::{
    descriptors_of, existing_worker_of, is_stopped, is_there, kill_worker_of, memory_of,
    processes_of, wait_for_log_of, worker_of,
};

/// Returns `etcp` with these arguments. It has no terminal, dies with the test, and gets no
/// environment that would change its behaviour. `HOME` is `home`.
pub fn etcp<S: AsRef<OsStr>>(home: &Path, args: impl IntoIterator<Item = S>) -> Command {
    limited(home, None, args)
}

/// Returns `etcp` with these arguments and a limit of descriptors.
pub fn limited<S: AsRef<OsStr>>(
    home: &Path,
    descriptors: Option<u32>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    if let Some(most) = descriptors {
        command.args(["prlimit", &format!("--nofile={most}:{most}"), "--"]);
    }
    command.args(DEFAULT_SIGNALS);
    command.arg("setsid").arg(etcp_program()).args(args);
    for name in ["SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE"] {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env_remove("XDG_STATE_HOME").env("HOME", home);
    command.env_remove("XDG_RUNTIME_DIR");
    for name in ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    for name in [
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "LOGS_DIRECTORY",
        "JOURNAL_STREAM",
    ] {
        command.env_remove(name);
    }
    if !geteuid().is_root() {
        // Another process of the same user counts its descriptors.
        command.env("ETCP_TRACEABLE", "1");
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A program that runs, or ran.
pub struct RunningProgram {
    name: String,
    child: Child,
    log: PathBuf,
}

impl RunningProgram {
    /// Starts a command, its stderr in a log in `folder`.
    pub fn start(name: &str, folder: &Path, mut command: Command) -> Self {
        // A restarted program has a log of its own.
        let mut logs = (0..).map(|number| folder.join(format!("{name}.{number}.log")));
        let log = logs.find(|log| !log.exists()).expect("some name is free");
        let file = File::create(&log).expect("a log can be made");
        let child = command.stderr(file).spawn().expect("setpriv and setsid run");
        Self { name: name.to_owned(), child, log }
    }

    /// Returns everything that the program has logged until now.
    #[track_caller]
    pub fn log(&self) -> String {
        wait_for_log_of(self.id());
        self.written()
    }

    /// Returns the contents of its log so far, without waiting for lines that are on their way.
    fn written(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns how many lines of the log contain `text`.
    #[track_caller]
    pub fn count(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until the log has a line with `text`, and returns it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_count(text, 1)
    }

    /// Waits until `count` lines of the log contain `text`, and returns the last.
    #[track_caller]
    pub fn wait_for_count(&mut self, text: &str, count: usize) -> String {
        until_some(&format!("{text:?} in the log of {}", self.name), PATIENCE, || {
            let is_running = self.is_running();
            let log = self.written();
            // The last line may not be complete yet.
            let lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            let mut lines = lines.filter(|line| line.contains(text));
            let found = lines.nth(count - 1).map(str::to_owned);
            assert!(found.is_some() || is_running, "{} ended without {text:?}", self.name);
            found
        })
    }

    /// Returns the id of its main process: the one that was started, and gets signals.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves.
    pub fn worker(&self) -> u32 {
        worker_of(self.id())
    }

    /// Kills the process that serves, without notice, and returns which one that was.
    #[track_caller]
    pub fn kill_worker(&self) -> u32 {
        kill_worker_of(self.id())
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the program's own end, and returns its exit code and its last line.
    #[track_caller]
    pub fn end(&mut self) -> (Option<i32>, String) {
        let status = self.end_of();
        (status.code(), self.log().lines().last().unwrap_or_default().to_owned())
    }

    /// Waits for the program's own end, and returns the exit status that its parent sees.
    #[track_caller]
    pub fn end_of(&mut self) -> ExitStatus {
        until_some(&format!("the end of {}", self.name), PATIENCE, || {
            self.child.try_wait().expect("it is our child")
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Stops it, and waits until each of its threads is stopped.
    #[track_caller]
    pub fn freeze(&self) {
        let processes = processes_of(self.id());
        processes.iter().for_each(|it| kill_raw(*it, Signal::STOP).expect("it runs"));
        until(&format!("{} to stand still", self.name), PATIENCE, || {
            processes.iter().all(|process| is_stopped(*process))
        });
    }

    /// Kills its main process without notice, and waits until all of it is gone.
    pub fn kill(&mut self) {
        let worker = existing_worker_of(self.id());
        self.signal(Signal::KILL);
        self.child.wait().expect("it is our child");
        until(&format!("the end of all of {}", self.name), PATIENCE, || {
            worker.is_none_or(|worker| !is_there(worker))
        });
    }

    /// Returns the memory that it holds, in bytes.
    #[track_caller]
    pub fn memory(&self) -> u64 {
        memory_of(self.id())
    }

    /// Returns how many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(descriptors_of(self.id())).map_or(0, Iterator::count)
    }

    /// Returns the most memory that it held while `work` ran.
    pub fn memory_during(&self, work: impl FnOnce()) -> u64 {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut most = self.memory();
                while !done.load(Ordering::Relaxed) {
                    most = most.max(self.memory());
                    std::thread::sleep(Duration::from_millis(20));
                }
                most
            });
            let end = SetAtEnd(&done);
            work();
            drop(end);
            watcher.join().expect("it only reads")
        })
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
        if std::thread::panicking() {
            let log = self.written();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            // Not eprintln!: the harness has its own order.
            let _ = writeln!(std::io::stderr(), "--- the log of {}:\n{tail}\n---", self.name);
        }
    }
}

/// Reports how long an operation took.
pub fn measure(what: &str, work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    let took = start.elapsed();
    let _ = writeln!(std::io::stderr(), "measured: {what}: {:.2} s", took.as_secs_f64());
    took
}

/// Waits for a condition with the usual time limit.
#[track_caller]
pub fn wait(what: &str, condition: impl FnMut() -> bool) {
    until(what, PATIENCE, condition);
}
