//! `etcp connect` between stdin and stdout of every kind: each byte arrives, or the exit code and
//! stderr report it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use etcp_testkit::loopback::operator::control;
use etcp_testkit::loopback::{LoopbackSite, LoopbackSproxy, RunningProgram, connect, etcp};
use etcp_testkit::process::DEFAULT_SIGNALS;
use etcp_testkit::wait::{PATIENCE, end_of, output};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::set_socket_linger;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

/// More bytes than all queues on the path hold together.
const LENGTH: usize = 3_000_000;

/// A server program that the test plays, behind an sproxy.
struct Stand {
    site: LoopbackSite,
    sproxy: LoopbackSproxy,
    target: TcpListener,
}

impl Stand {
    fn new() -> Self {
        let (site, target) =
            (LoopbackSite::new(), TcpListener::bind("127.0.0.1:0").expect("a port"));
        let sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it is bound"));
        Self { site, sproxy, target }
    }

    fn connect(&self) -> Command {
        connect(&self.site, self.sproxy.address, &self.site.client, &[])
    }

    /// Starts the same program by sh, which changes its descriptors as `redirection` says.
    fn redirected(&self, redirection: &str) -> Command {
        self.by_shell(&format!("exec \"$@\" {redirection}"))
    }

    /// Returns the same command, run by a script as `"$@"`.
    fn by_shell(&self, script: &str) -> Command {
        by_shell(&self.connect(), script)
    }

    /// Makes the server program send everything, and end.
    fn send_all(&self) -> TcpStream {
        let (mut stream, _) = self.target.accept().expect("somebody connects");
        stream.write_all(&bytes()).expect("it is taken");
        stream.shutdown(Shutdown::Write).expect("it is open");
        stream
    }
}

/// Returns a command that a script runs as `"$@"`, with three pipes.
fn by_shell(command: &Command, script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

fn bytes() -> Vec<u8> {
    (0..LENGTH).map(|n| (n * n % 251) as u8).collect()
}

/// Waits for the end with this exit code, without waiting for the input's end; returns the stderr.
#[track_caller]
fn end(mut child: Child, code: i32) -> String {
    let _input = child.stdin.take();
    let Output { status, stderr, .. } = end_of(child);
    let said = String::from_utf8(stderr).expect("it is text");
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

/// Returns whether everything up to the end arrives, and the end is an error.
#[track_caller]
fn is_reset(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
    let error = io::copy(&mut stream, &mut io::sink()).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_stdout_in_non_blocking_mode_gets_every_byte_and_keeps_its_mode() {
    for is_changing in [false, true] {
        let stand = Stand::new();
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        fcntl_setpipe_size(&to, 4096).unwrap();
        ioctl_fionbio(&to, true).unwrap();
        let mut command = stand.connect();
        command.stdin(Stdio::null()).stdout(to.try_clone().unwrap());
        let child = command.spawn().unwrap();
        drop(command);
        let (mut got, mut chunk) = (Vec::new(), vec![0; 50_000]);
        thread::scope(|scope| {
            scope.spawn(|| stand.send_all());
            let mut from = File::from(from);
            while got.len() < LENGTH {
                let count = from.read(&mut chunk).unwrap();
                got.extend_from_slice(&chunk[..count]);
                if is_changing {
                    ioctl_fionbio(&to, got.len() % 3 == 0).unwrap();
                }
            }
        });
        assert!(got == bytes());
        if !is_changing {
            assert!(fcntl_getfl(&to).unwrap().contains(OFlags::NONBLOCK));
        }
        assert_eq!(end(child, 0), "");
    }
}

#[test]
fn one_socket_in_non_blocking_mode_is_both_stdin_and_stdout_and_each_half_ends_alone() {
    let stand = Stand::new();
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let far = OwnedFd::from(far);
    let mut command = stand.connect();
    command.stdin(far.try_clone().unwrap()).stdout(far);
    let child = command.spawn().unwrap();
    drop(command);
    let target = stand.send_all();
    let mut got = Vec::new();
    (&near).read_to_end(&mut got).unwrap();
    assert!(got == bytes(), "the end of the output is told while the input goes on");
    thread::scope(|scope| {
        scope.spawn(|| {
            (&near).write_all(&bytes()).unwrap();
            near.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        (&target).read_to_end(&mut received).unwrap();
        assert!(received == bytes());
    });
    assert_eq!(end(child, 0), "");
}

#[test]
fn a_stdin_in_non_blocking_mode_is_waited_for() {
    let stand = Stand::new();
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    ioctl_fionbio(&from, true).unwrap();
    let mut command = stand.connect();
    command.stdin(from.try_clone().unwrap());
    let child = command.spawn().unwrap();
    drop(command);
    let (target, _) = stand.target.accept().unwrap();
    let mut to = File::from(to);
    let mut received = vec![0; 5];
    for word in ["hello", "again"] {
        to.write_all(word.as_bytes()).unwrap();
        (&target).read_exact(&mut received).unwrap();
        assert_eq!(received, word.as_bytes());
    }
    assert!(fcntl_getfl(&from).unwrap().contains(OFlags::NONBLOCK));
    drop(to);
    assert_eq!((&target).read(&mut received).unwrap(), 0);
    drop(target);
    assert_eq!(end(child, 0), "");
}

#[test]
fn an_output_that_cannot_be_written_is_reported_and_the_server_sees_a_reset() {
    let stand = Stand::new();
    let limited = format!("ulimit -f 0; exec \"$@\" >{}/limited", stand.site.path().display());
    for (script, why) in [
        ("exec \"$@\" >/dev/full", "No space left"),
        ("exec \"$@\" >&-", "Bad file descriptor"),
        (&limited, "File too large"),
    ] {
        let child = stand.by_shell(script).spawn().unwrap();
        let (mut target, _) = stand.target.accept().unwrap();
        target.write_all(b"x").unwrap();
        let said = end(child, 1);
        assert!(said.starts_with("etcp: cannot write to stdout: "), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
        is_reset(&target);
    }
}

#[test]
fn an_input_that_fails_is_reported_and_the_server_sees_no_end_of_it() {
    let stand = Stand::new();
    let said = end(stand.redirected("</").spawn().unwrap(), 1);
    assert!(said.starts_with("etcp: cannot read stdin: Is a directory"), "{said}");
    // A socket whose other end closes with unread data fails after the data.
    let (near, far) = UnixStream::pair().unwrap();
    (&far).write_all(b"unread").unwrap();
    let mut command = stand.connect();
    command.stdin(OwnedFd::from(far));
    let child = command.spawn().unwrap();
    drop(command);
    (&near).write_all(b"input").unwrap();
    let (target, _) = stand.target.accept().unwrap();
    let mut received = [0; 5];
    (&target).read_exact(&mut received).unwrap();
    drop(near);
    is_reset(&target);
    let said = end(child, 1);
    assert!(said.starts_with("etcp: cannot read stdin: Connection reset"), "{said}");
}

#[test]
fn a_stdin_that_is_closed_or_unreadable_is_empty_and_the_output_arrives() {
    let stand = Stand::new();
    // nohup(1) leaves the second kind of stdin.
    for (redirection, code) in [("<&-", 0), ("0>/dev/null", 1)] {
        let child = stand.redirected(redirection).spawn().unwrap();
        let (mut target, _) = stand.target.accept().unwrap();
        assert_eq!(target.read(&mut [0]).unwrap(), 0);
        target.write_all(b"all of it").unwrap();
        drop(target);
        let output = end_of(child);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "all of it");
        assert_eq!(output.status.code(), Some(code), "{redirection}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("stdin is not open for reading"), code == 1, "{said}");
    }
}

#[test]
fn a_reader_that_is_gone_ends_it_quietly_with_the_exit_code_of_sigpipe() {
    let stand = Stand::new();
    let mut child = stand.connect().spawn().unwrap();
    let (mut target, _) = stand.target.accept().unwrap();
    drop(child.stdout.take());
    // A process that another test starts has a copy of the pipe for a moment, and until then the
    // pipe takes bytes: the program sends more until the reset comes.
    target.set_write_timeout(Some(PATIENCE)).unwrap();
    while target.write_all(b"x").is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(end(child, 141), "");
}

#[test]
fn a_reset_by_the_server_program_comes_after_its_bytes_and_is_reported() {
    let stand = Stand::new();
    let mut child = stand.connect().spawn().unwrap();
    let (mut target, _) = stand.target.accept().unwrap();
    target.write_all(b"before").unwrap();
    let mut got = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    set_socket_linger(&target, Some(std::time::Duration::ZERO)).unwrap();
    drop(target);
    let said = end(child, 1);
    assert!(said.starts_with("etcp: ") && said.contains("reset"), "{said}");
}

#[test]
fn data_of_the_server_wait_for_a_slow_reader_until_a_signal() {
    let stand = Stand::new();
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setpipe_size(&to, 4096).unwrap();
    let mut command = stand.connect();
    command.stdin(Stdio::null()).stdout(to);
    let mut program = RunningProgram::start("connect", stand.site.path(), command);
    let (mut target, _) = stand.target.accept().unwrap();
    target.write_all(&bytes()[..50_000]).unwrap();
    drop(target);
    // Everything is delivered, the tunnel is over, and stdout takes no more.
    let mut sproxy = stand.sproxy.program;
    sproxy.wait_for("closed by the client");
    assert!(program.is_running());
    program.signal(Signal::TERM);
    assert_eq!(program.end(), (Some(143), String::new()));
    drop(from);
}

#[test]
fn a_signal_is_reported_by_the_exit_code_of_a_shell() {
    let stand = Stand::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let child = stand.connect().spawn().unwrap();
        let (target, _) = stand.target.accept().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        is_reset(&target);
        assert_eq!(end(child, code), "");
    }
}

#[test]
fn a_signal_resets_the_session_although_something_else_ends_before_the_tunnel() {
    let stand = Stand::new();
    for signal in [Signal::INT, Signal::TERM] {
        // The program waits for the end of its hook, and the tunnel works meanwhile.
        let hook = ["--on-event", "true"];
        let (server, key) = (stand.sproxy.address, &stand.site.client);
        let child = connect(&stand.site, server, key, &hook).spawn().unwrap();
        let (target, _) = stand.target.accept().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        is_reset(&target);
        drop(end_of(child));
    }
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let stand = Stand::new();
    let connect = stand.connect();
    let ignoring = connect.get_args().map(|arg| match arg.to_str() {
        Some(arg) if arg == DEFAULT_SIGNALS[1] => "--ignore-signal=INT,TERM,HUP".as_ref(),
        _ => arg,
    });
    let mut command = Command::new(connect.get_program());
    command.args(ignoring).envs(connect.get_envs().filter_map(|(name, it)| Some((name, it?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut target, _) = stand.target.accept().unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    drop(child.stdin.take());
    assert_eq!(target.read(&mut [0]).unwrap(), 0);
    target.write_all(b"all of it").unwrap();
    drop(target);
    let output = end_of(child);
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"all of it".to_vec()));
}

#[test]
fn output_of_a_command_is_written_whole_or_its_exit_code_is_an_error() {
    let stand = Stand::new();
    let key = stand.site.client.path.to_str().unwrap();
    let control = control(&stand.site, "sproxy", &stand.sproxy.program);
    for args in [
        &["--help"][..],
        &["--version"],
        &["cproxy", "--help"],
        &["completions", "bash"],
        &["keygen", "-l", key],
        &["keygen", "-y", key],
        &["status", "--control", &control],
        &["status", "--json", "--control", &control],
    ] {
        let command = etcp(stand.site.path(), args);
        let run = |script: &str| output(by_shell(&command, script).stdout(Stdio::piped()));
        let whole = run("exec \"$@\"");
        assert!(whole.status.success() && !whole.stdout.is_empty(), "{args:?}: {whole:?}");
        for redirection in [">/dev/full", ">&-"] {
            let output = run(&format!("exec \"$@\" {redirection}"));
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{args:?} {redirection}: {said}");
            assert!(said.starts_with("etcp: cannot write to stdout: "), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let (nobody, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        drop(nobody);
        let mut unread = etcp(stand.site.path(), args);
        let child = unread.stdout(to).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(end(child, 0), "", "{args:?}: nobody reads");
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        fcntl_setpipe_size(&to, 4096).unwrap();
        ioctl_fionbio(&to, true).unwrap();
        let mut non_blocking = etcp(stand.site.path(), args);
        let mut child = non_blocking.stdout(to).spawn().unwrap();
        drop(non_blocking);
        let mut read = String::new();
        File::from(from).read_to_string(&mut read).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(read.len(), whole.stdout.len(), "{args:?}");
    }
}
