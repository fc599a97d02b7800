//! One network namespace: created, entered, and removed with all its processes.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use crate::wait::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that exists as long as this value.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates the namespace, with its loopback up.
    pub fn create(name: String) -> Self {
        let status = Command::new("ip").args(["netns", "add", &name]).status();
        assert!(status.expect("ip runs").success(), "cannot make the namespace {name}");
        let namespace = Self { name };
        // Addresses are usable at once: nothing else here could have them.
        namespace.sysctl("ipv6/conf/default/accept_dad", "0");
        namespace.ip("-4", &["link set lo up"]);
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a command that will run in the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// Runs `ip` for each line, with `-4` or `-6`, in one process.
    #[track_caller]
    pub fn ip(&self, family: &str, lines: &[&str]) {
        let is_added = |line: &str| {
            family == "-6" && ["addr add ", "addr replace "].iter().any(|it| line.starts_with(it))
        };
        // An address can be used only after a worker of the kernel had its turn, which takes long on a
        // busy machine, unless it is said that nothing has to be detected.
        let usable = |line: &&str| match is_added(line) && !line.ends_with("nodad") {
            true => format!("{line} nodad"),
            false => (*line).to_owned(),
        };
        let text = lines.iter().map(usable).collect::<Vec<_>>().join("\n");
        let mut command = Command::new("ip");
        command.args([family, "-n", &self.name, "-batch", "-"]);
        feed(command, &text);
        lines.iter().filter(|line| is_added(line)).for_each(|line| self.await_address(line));
    }

    /// Waits until an address that was added can be used: a worker of the kernel makes its route.
    /// On an interface that nothing can pass, it makes the route later.
    fn await_address(&self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let device = words.iter().skip_while(|word| **word != "dev").nth(1);
        let (Some(network), Some(device)) = (words.get(2), device) else { return };
        let address = network.split('/').next().unwrap_or(network);
        let shown = |args: &[&str]| {
            let shown = Command::new("ip").args(["-n", &self.name]).args(args).output();
            String::from_utf8_lossy(&shown.expect("ip runs").stdout).into_owned()
        };
        if !shown(&["link", "show", "dev", device]).contains("LOWER_UP") {
            return;
        }
        let local = ["-6", "route", "show", "table", "local", address];
        until("a route to an address", PATIENCE, || !shown(&local).is_empty());
    }

    /// Runs an nftables script here.
    #[track_caller]
    pub fn nft(&self, script: &str) {
        let mut command = self.command("nft");
        command.args(["-f", "-"]);
        feed(command, script);
    }

    /// Sets a value under `/proc/sys/net`.
    pub fn sysctl(&self, path: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/net/{path}"), value))
            .unwrap_or_else(|error| panic!("cannot set {path} in {}: {error}", self.name));
    }

    /// Returns a function that moves the calling thread into the namespace.
    pub fn entrance(&self) -> impl Fn() + Send + Sync + 'static {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("it exists");
        move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
        }
    }

    /// Runs `work` on a thread inside the namespace. A socket that it creates stays in the
    /// namespace, and may be used from every thread.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = self.entrance();
        let inside = move || {
            enter();
            work()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Ends the remaining processes here. Only those of the test can exist: the namespace is the
    /// test's own.
    fn end_processes(&self) {
        let Ok(output) = Command::new("ip").args(["netns", "pids", &self.name]).output() else {
            return;
        };
        for pid in String::from_utf8_lossy(&output.stdout).lines() {
            let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|pid| *pid != rustix::process::getpid()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end_processes();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Removes namespaces of `prefix` whose test was killed before it could do so itself: the process
/// whose id is in the name no longer exists.
pub fn remove_orphans(prefix: &str) {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let Some(pid) = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            drop(Namespace { name });
        }
    }
}

/// Runs a command with `input` on its stdin, and panics with its stderr if it fails.
#[track_caller]
fn feed(mut command: Command, input: &str) {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads its stdin");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {stderr}\n{input}");
}
