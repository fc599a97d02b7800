//! The log's reader is stopped, gone, or has no room: sessions continue, and lost lines are counted
//! and reported. A peer's text forges no line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};

use eternaltcp::is_unsafe;
use eternaltcp::tls::Identity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier, new};
use etcp_testkit::loopback::operator::{control, operate};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::patient;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, PATIENCE, Steady, etcp};
use etcp_testkit::terminal::Terminal;
use etcp_testkit::{Launch, refused, skip};

/// A program whose stderr is the smallest pipe there is.
struct Piped {
    child: Child,
    log: Option<BufReader<PatientReader>>,
}

/// A pipe that will have something to read.
struct PatientReader(File);

impl Read for PatientReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&limit)), Ok(1), "nothing is written any more");
        self.0.read(buffer)
    }
}

impl Piped {
    fn start(mut command: Command) -> Self {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        fcntl_setpipe_size(&write, 4096).expect("a page");
        let child = command.stderr(write).spawn().expect("setpriv and setsid run");
        Self { child, log: Some(BufReader::new(PatientReader(File::from(read)))) }
    }

    /// Reads its log up to its address. Nothing is read after that.
    fn listening(&mut self) -> SocketAddr {
        let log = self.log.as_mut().expect("it is read");
        for line in log.lines() {
            let line = line.expect("text");
            if let Some((_, address)) = line.split_once("listening on ") {
                return address.parse().expect("an address");
            }
        }
        panic!("it ended before it listened");
    }

    /// Reads until a line has `text`; returns all lines to that one.
    fn read_until(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for line in self.log.as_mut().expect("it is read").lines() {
            lines.push(line.expect("text"));
            if lines.last().is_some_and(|line| line.contains(text)) {
                return lines;
            }
        }
        panic!("{text:?} is in none of {} lines", lines.len());
    }

    fn stop(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let mut status = None;
        wait("the end of the program", || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        });
        status.expect("it was waited for")
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sproxy(site: &LoopbackSite, target: SocketAddr, args: &[&str]) -> Command {
    let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0", "--target"]);
    command.arg(target.to_string()).arg("--identity").arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys()).args(args);
    command
}

/// Makes the server log thousands of lines, more than wait for a reader.
fn flood(server: SocketAddr) {
    for _ in 0..7000 {
        // Connections without TLS are logged at level DEBUG.
        let mut stream = patient(TcpStream::connect(server).expect("it listens"));
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn is_line_of_the_log(line: &str) -> bool {
    let level = line.split_whitespace().nth(1).unwrap_or_default();
    line.starts_with("20") && ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level)
}

#[test]
fn sessions_go_on_while_the_reader_of_the_log_stalls_and_lost_lines_are_reported() {
    let site = LoopbackSite::new();
    let mut server = Piped::start(sproxy(&site, Echo::start().address, &["-v"]));
    let address = server.listening();
    let cproxy = Cproxy::start(&site, address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    flood(address);
    steady.goes_on();
    // New carriers and new sessions work, too.
    let other = Cproxy::start(&site, address, "other").attached();
    Steady::start(other.listen).finish();
    steady.finish();
    let lines = server.read_until(" lost: stderr did not accept them");
    let notice = lines.last().expect("it was found");
    let count = notice.split_whitespace().nth(2).and_then(|word| word.parse::<usize>().ok());
    assert!(count.is_some_and(|count| count > 0), "{notice}");
    assert!(notice.contains(" WARN "), "{notice}");
    assert!(lines.len() > 1000, "a megabyte of lines waits: {}", lines.len());
    let torn = lines.iter().find(|line| !is_line_of_the_log(line));
    assert_eq!(torn, None, "each line is whole");
    assert!(server.stop().success());
}

#[test]
fn a_gap_in_a_log_of_json_is_an_object_like_any_other() {
    let site = LoopbackSite::new();
    let args = ["-v", "--log-format", "json"];
    let mut server = Piped::start(sproxy(&site, Echo::start().address, &args));
    let line = server.read_until("listening on ").pop().expect("it was found");
    let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let message = object["message"].as_str().expect("text");
    let address = message.strip_prefix("listening on ").and_then(|text| text.parse().ok());
    flood(address.expect("an address"));
    for line in server.read_until(" lost: stderr did not accept them") {
        let object: serde_json::Value = serde_json::from_str(&line).expect("each line is JSON");
        assert!(object["level"].is_string(), "{line}");
    }
}

#[test]
fn a_program_whose_log_is_stuck_ends_when_asked_to() {
    let site = LoopbackSite::new();
    let mut server = Piped::start(sproxy(&site, Echo::start().address, &["-v"]));
    flood(server.listening());
    assert!(server.stop().success());
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let site = LoopbackSite::new();
    let mut server = Piped::start(sproxy(&site, Echo::start().address, &[]));
    server.listening();
    assert!(server.stop().success());
    server.read_until("INFO shutting down");
}

/// Returns a full disk, and a pipe whose reader is gone.
fn unwritable() -> [Stdio; 2] {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let broken = pipe_with(PipeFlags::CLOEXEC).expect("a pipe").1;
    [full.into(), broken.into()]
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    for stderr in unwritable() {
        let site = LoopbackSite::new();
        let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
        let socket = site.path().join("apps");
        let mut command = etcp(site.path(), ["cproxy", "-vv", "--no-ssh-config"]);
        command.args(["--server", &sproxy.address.to_string(), "--identity"]);
        command.arg(&site.client.path).arg("--known-hosts").arg(site.known_hosts());
        command.arg("--listen").arg(format!("unix:{}", socket.display()));
        let child = command.stderr(stderr).spawn().expect("setpriv and setsid run");
        let mut cproxy = Piped { child, log: None };
        wait("a connection", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        stream.write_all(b"hello").expect("it takes it");
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).expect("it comes back");
        assert_eq!(&echo, b"hello");
        assert!(cproxy.stop().success());
    }
}

#[test]
fn a_log_at_the_limit_of_file_sizes_ends_nothing() {
    let site = LoopbackSite::new();
    let socket = site.path().join("control");
    let command = sproxy(&site, Echo::start().address, &["--control", "control"]);
    let mut shell = Command::new("sh");
    let script = "ulimit -f 0; exec \"$@\" 2>log";
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    let child = shell.env("HOME", site.path()).current_dir(site.path()).spawn();
    let mut server = Piped { child: child.expect("sh runs"), log: None };
    wait("its control socket", || socket.exists());
    assert_eq!(server.child.try_wait().expect("it is ours"), None);
    assert_eq!(std::fs::read(site.path().join("log")).expect("sh makes it"), b"");
    assert!(server.stop().success());
}

#[test]
fn an_error_at_the_start_has_its_exit_code_whatever_stderr_is() {
    let site = LoopbackSite::new();
    for stderr in unwritable() {
        let mut command = etcp(site.path(), ["cproxy", "--no-such-flag"]);
        let status = command.stderr(stderr).status().expect("setpriv and setsid run");
        assert_eq!(status.code(), Some(2));
    }
}

#[test]
fn a_terminal_that_stops_whoever_writes_in_the_background_stops_no_proxy() {
    if !skip::can_find("cli::log_reader (tostop)", &["bash", "stty"]) {
        return;
    }
    // A shell with job control gives the proxy a process group other than the terminal's.
    const JOB: &str =
        "stty tostop; set -m; setpriv --pdeathsig KILL -- \"$@\" </dev/null 2>&1 & wait";
    let site = LoopbackSite::new();
    let launch = Launch::new("job", "bash").args(["-c", JOB, "bash", env!("CARGO_BIN_EXE_etcp")]);
    let launch = launch.args(["sproxy", "--listen", "127.0.0.1:0", "--control", "none"]);
    let launch = launch.arg("--identity").arg(site.server_key());
    let launch = launch.arg("--authorized-keys").arg(site.authorized_keys());
    let launch = launch.env("HOME", site.path());
    let mut terminal = Terminal::start_here(launch, site.path());
    terminal.expect("listening on 127.0.0.1", PATIENCE);
    terminal.expect("keys in", PATIENCE);
}

#[test]
fn the_name_of_a_client_forges_no_line_and_cannot_control_the_terminal() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let user = &site.client.identity;
    let mut peer =
        HostilePeer::new(RawCarrier::connect([127, 0, 0, 1].into(), sproxy.address, user));
    // The text is as long as its replacement below.
    let placeholder = "N".repeat(FORGED.len());
    let request = peer.request(new(&Identity::generate().expect("a key"), &placeholder));
    let at = request.windows(placeholder.len()).position(|it| it == placeholder.as_bytes());
    let at = at.expect("its name is in it");
    let forged = [&request[..at], FORGED.as_bytes(), &request[at + FORGED.len()..]].concat();
    peer.carrier.send(&forged);
    assert_eq!(peer.answer(), PeerAnswer::Attached);
    let place = control(&site, "sproxy", &sproxy.program);
    for extra in [&[][..], &["--json"]] {
        let said = operate(&site, &[&["status", "--control", &place], extra].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("name 2026-01-01 ERROR forged"), "{said:?}");
        assert!(!said.out.replace('\n', "").contains(is_unsafe), "{said:?}");
    }
    let log = sproxy.program.log();
    assert!(!log.replace('\n', "").contains(is_unsafe), "{log:?}");
    assert!(log.lines().all(is_line_of_the_log), "{log}");
}

/// A name with a line of its own, an escape sequence of each kind, and text that runs backwards.
const FORGED: &str = "name\n2026-01-01 ERROR forged\r\x1b[2J\u{9b}2J\u{202e}\u{2028}\u{2066}x";

#[test]
fn a_few_of_many_failing_sessions_have_a_line_and_the_others_are_counted() {
    const FAILING: usize = 300;
    let site = LoopbackSite::new();
    let mut sproxy = LoopbackSproxy::start(&site, refused());
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    for _ in 0..FAILING {
        let mut stream = TcpStream::connect(cproxy.listen).expect("it listens");
        let _ = stream.read(&mut [0]);
    }
    let counted = |log: &str| {
        let shown = log.lines().filter(|line| line.contains("refused the connection")).count();
        let hidden = log.lines().filter_map(|line| {
            if let Some((_, after)) = line.split_once(" not_shown=") {
                return after.split(' ').next()?.parse::<usize>().ok();
            }
            let (before, _) = line.split_once(" more lines ")?;
            before.rsplit(' ').next()?.parse::<usize>().ok()
        });
        (shown, hidden.sum::<usize>())
    };
    for program in [&mut sproxy.program, &mut { cproxy.program }] {
        wait("all of them to be told", || {
            let (shown, hidden) = counted(&program.log());
            shown + hidden == FAILING
        });
        let (shown, hidden) = counted(&program.log());
        assert!(hidden > FAILING / 2, "{shown} shown, {hidden} counted");
    }
}

/// Returns the lines of a log of JSON.
fn objects(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn a_server_writes_no_identical_lines_about_two_clients() {
    let site = LoopbackSite::new();
    let mut sproxy = Piped::start(sproxy(&site, refused(), &["--log-format", "json"]));
    let line = sproxy.read_until("listening on ").pop().expect("it was found");
    let address =
        objects(&line)[0]["message"].as_str().and_then(|it| it.rsplit(' ').next()?.parse().ok());
    let address = address.expect("an address");
    let clients = ["one", "two"].map(|name| Cproxy::start(&site, address, name).attached());
    for mut client in clients {
        let mut stream = TcpStream::connect(client.listen).expect("it listens");
        let _ = stream.read(&mut [0]);
        client.program.signal(Signal::USR1);
        wait("a new carrier", || client.attached_again() > 0);
        client.program.signal(Signal::TERM);
        client.program.end();
    }
    let mut lines = sproxy.read_until("tunnel over");
    lines.extend(sproxy.read_until("tunnel over"));
    let objects = objects(&lines.join("\n"));
    let tunnels_of = |message: &str| {
        let lines = objects
            .iter()
            .filter(|it| it["message"].as_str().is_some_and(|it| it.contains(message)));
        lines
            .map(|it| it["tunnel"].as_str().expect("it says which").to_owned())
            .collect::<BTreeSet<_>>()
    };
    for message in
        ["tunnel made", "attached", "refused the connection", "attached again", "tunnel over"]
    {
        assert_eq!(tunnels_of(message).len(), 2, "{message}: {objects:#?}");
    }
    let keys: BTreeSet<_> = objects.iter().filter_map(|it| it["key"].as_str()).collect();
    assert_eq!(keys.len(), 1, "{objects:#?}");
    let mut seen = BTreeSet::new();
    for mut object in objects {
        object["timestamp"].take();
        let line = object.to_string();
        let is_of_a_tunnel = object["tunnel"].is_string();
        assert!(is_of_a_tunnel || seen.insert(line.clone()), "it stands twice: {line}");
    }
}
