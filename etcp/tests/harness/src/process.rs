//! Programs under test, their logs, and their end.
//!
//! Each program gets its own process group, is killed with it when its [`Process`] is dropped, and
//! also when the thread that started it ends without a drop.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::folder::TestFolder;
use super::netns::Namespace;
use super::wait::{comes_true, until_some};
use super::worker::{kill_worker_of, processes_of, wait_for_log_of, worker_of};

/// The user who runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The user of the tests, in namespaces always root.
    Root,
    /// The ordinary user that every system has.
    Nobody,
    /// Another ordinary user, for a program that requires a real account.
    Id(u32, u32),
}

impl RunAs {
    /// Returns the ids of the user and the group.
    pub fn ids(self) -> (u32, u32) {
        match self {
            Self::Root => (0, 0),
            Self::Nobody => (65534, 65534),
            Self::Id(user, group) => (user, group),
        }
    }

    /// Makes this user the owner of a file.
    ///
    /// Only root can do that. A test of another user starts its programs as that user too, so its
    /// files already have the right owner.
    pub fn own(self, path: &Path) {
        if rustix::process::geteuid().is_root() {
            let (user, group) = self.ids();
            std::os::unix::fs::chown(path, Some(user), Some(group)).expect("owner is set");
        }
    }
}

/// Runs a program without ignoring the signals that end a job. A shell without job control makes
/// the tests ignore typed signals, and programs inherit that.
pub const DEFAULT_SIGNALS: [&str; 2] = ["env", "--default-signal=INT,QUIT,HUP,TERM"];

/// A program about to be started.
pub struct Launch {
    name: String,
    /// The wrapper that runs the program and replaces itself with it.
    runner: Vec<OsString>,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    files: Vec<(PathBuf, &'static str)>,
    user: RunAs,
}

/// Mounts files over those of the system, only for the following program: each pair of arguments
/// before `--` is a file and the one that it hides.
const LAY_OVER: &str = r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done
shift; exec "$@""#;

impl Launch {
    /// Creates a launch; `name` names the log, and the program runs as the ordinary user unless
    /// told otherwise.
    pub fn new(name: &str, program: impl AsRef<OsStr>) -> Self {
        Self {
            name: name.to_owned(),
            runner: Vec::new(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            user: RunAs::Nobody,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Makes another program run it, which replaces itself with it, as env(1) and chrt(1) do.
    pub fn run_by<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.runner.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key, value.as_ref().to_owned()));
        self
    }

    /// Makes the program see `file` in place of the system's `hidden`.
    pub fn file(mut self, file: &Path, hidden: &'static str) -> Self {
        self.files.push((file.to_owned(), hidden));
        self
    }

    /// Sets the user who runs it.
    pub fn user(mut self, user: RunAs) -> Self {
        self.user = user;
        self
    }

    /// Starts it in a namespace, stdin empty, stdout and stderr in its log in `folder`.
    pub fn start(self, namespace: &Namespace, folder: &TestFolder) -> Process {
        self.start_with(namespace, folder, Stdio::null(), None)
    }

    /// Starts it with the given stdin, and stdout instead of the log if one is given.
    pub fn start_with(
        self,
        namespace: &Namespace,
        folder: &TestFolder,
        stdin: Stdio,
        stdout: Option<Stdio>,
    ) -> Process {
        let mut command =
            namespace.command(if self.files.is_empty() { "setpriv" } else { "unshare" });
        if !self.files.is_empty() {
            // A separate mount namespace, which disappears with the program.
            command.args(["--mount", "--", "sh", "-c", LAY_OVER, "sh"]);
            for (file, hidden) in &self.files {
                command.arg(file).arg(hidden);
            }
            command.args(["--", "setpriv"]);
        }
        self.spawn(command, folder.path(), stdin, stdout)
    }

    /// Starts it on this machine itself, as the user of the tests, with its log in `folder`.
    pub fn start_here(self, folder: &Path) -> Process {
        self.start_here_with(folder, Stdio::null(), None)
    }

    /// Starts it as [`Self::start_here`] does, with the given stdin, and with `stdout`, if there is
    /// one, in place of the log.
    pub fn start_here_with(self, folder: &Path, stdin: Stdio, stdout: Option<Stdio>) -> Process {
        self.user(RunAs::Root).spawn(Command::new("setpriv"), folder, stdin, stdout)
    }

    fn spawn(
        self,
        setpriv: Command,
        folder: &Path,
        stdin: Stdio,
        stdout: Option<Stdio>,
    ) -> Process {
        use std::os::unix::process::CommandExt;
        let log = folder.join(format!("{}.log", self.name));
        let file = File::create(&log).expect("a log can be made");
        let stdout = stdout.unwrap_or_else(|| file.try_clone().expect("a descriptor").into());
        let mut command = self.command(setpriv);
        command.current_dir(folder).stdin(stdin).stdout(stdout).stderr(file);
        let child = command.process_group(0).spawn().expect("nsenter and setpriv run");
        Process { name: self.name, child, log }
    }

    /// Completes a command of wrappers. nsenter, sh and setpriv replace themselves, so the child's
    /// id is the program's.
    fn command(&self, mut command: Command) -> Command {
        command.args(["--pdeathsig", "KILL"]);
        if self.user != RunAs::Root {
            let (user, group) = self.user.ids();
            command.arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
            command.args(["--clear-groups", "--inh-caps=-all"]);
        }
        command.arg("--").args(DEFAULT_SIGNALS);
        command.args(&self.runner).arg(&self.program).args(&self.args);
        command.env("RUST_LOG", "info").env("LC_ALL", "C");
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME");
        // Only root reads the descriptors of programs that hide their memory.
        if !rustix::process::geteuid().is_root() {
            command.env("ETCP_TRACEABLE", "1");
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// A program that runs, or ran.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
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
        count(&self.log(), text)
    }

    /// Waits until the log has a line with `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        self.wait_for_count(text, 1, limit);
    }

    /// Waits until `count` lines of the log contain `text`.
    #[track_caller]
    pub fn wait_for_count(&mut self, text: &str, count: usize, limit: Duration) {
        let is_logged = comes_true(limit, || {
            let is_running = self.is_running();
            let found = self::count(&self.written(), text) >= count;
            assert!(found || is_running, "{} ended before it logged {text:?}", self.name);
            found
        });
        let (name, log) = (&self.name, self.written());
        assert!(is_logged, "after {limit:?} {name} has not logged {text:?} {count} times:\n{log}");
    }

    /// Returns the id of its main process: the one that was started, and gets signals.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves.
    pub fn worker(&self) -> u32 {
        worker_of(self.id())
    }

    /// Kills the process that serves, without notice.
    #[track_caller]
    pub fn kill_worker(&self) {
        kill_worker_of(self.id());
    }

    /// Returns the program's stdin and stdout, which must be pipes.
    pub fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        pipes.expect("stdin and stdout are pipes, and nobody took them before")
    }

    /// Removes the log of one of many programs.
    pub fn remove_log(&self) {
        std::fs::remove_file(&self.log).expect("the folder is ours");
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the program has ended by itself.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        until_some(&format!("the end of {}", self.name), limit, || {
            self.child.try_wait().expect("it is our child")
        })
    }

    /// Asks the program to end (SIGTERM), and waits until it has.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        if self.is_running() {
            let _ = kill_process(self.pid(), Signal::TERM);
        }
        self.wait(limit)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("it still runs");
    }

    /// Stops it (SIGSTOP) until [`Self::resume`].
    pub fn pause(&self) {
        for process in processes_of(self.id()) {
            kill_raw(process, Signal::STOP).expect("it runs");
        }
    }

    /// Lets it continue.
    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it runs");
    }

    /// Sets its limit of descriptors.
    pub fn limit_descriptors(&self, most: &str) {
        self.limit(self.worker(), "nofile", most);
    }

    /// Limits the threads and processes of its user: from this number on, its worker cannot start
    /// another one.
    pub fn limit_threads(&self, most: &str) {
        self.limit(self.worker(), "nproc", most);
    }

    /// Sets a limit of its main process, which is that of each worker that starts later.
    pub fn limit_next_workers(&self, what: &str, most: &str) {
        self.limit(self.id(), what, most);
    }

    /// Sets a soft limit. Only its own user may do so.
    fn limit(&self, process: u32, what: &str, most: &str) {
        let (user, group) = RunAs::Nobody.ids();
        let status = Command::new("setpriv")
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={group}"))
            .args(["--clear-groups", "--", "prlimit"])
            .arg(format!("--{what}={most}:"))
            .args(["--pid", &process.to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "the limit of {} stays", self.name);
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

/// Sends a signal to a process.
pub fn kill_raw(process: u32, signal: Signal) -> rustix::io::Result<()> {
    kill_process(Pid::from_raw(process.cast_signed()).expect("a process id"), signal)
}

impl Drop for Process {
    fn drop(&mut self) {
        // Until the process is waited for, its id is not reused; after that, none of its group is
        // left except what its namespace ends.
        if self.is_running() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            print_tail(&self.name, &self.log);
        }
    }
}

/// The folder that gets the logs of programs whose test has failed, if this variable is set.
const KEPT_LOGS: &str = "ETCP_TEST_LOGS";

/// Prints the end of a log, and keeps all of it if that is asked for.
fn print_tail(name: &str, log: &Path) {
    const LINES: usize = 40;
    if let Some(folder) = std::env::var_os(KEPT_LOGS) {
        let test = log.parent().and_then(Path::file_name).unwrap_or_default();
        let kept = format!("{}-{name}.log", test.to_string_lossy());
        let _ = std::fs::copy(log, Path::new(&folder).join(kept));
    }
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let _ = writeln!(std::io::stderr(), "--- the log of {name} ends:\n{tail}\n---");
}
