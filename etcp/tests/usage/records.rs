//! `--audit-log`: the records of a server, read with jq as `docs/records.md` shows.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use etcp_testkit::loopback::operator::{control, operate, session_of, status};
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady, connect};
use etcp_testkit::{refused, skip};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;
use serde_json::Value;

/// A server that records, in front of an echo.
pub(super) struct RecordFixture {
    pub(super) site: LoopbackSite,
    file: PathBuf,
    pub(super) sproxy: LoopbackSproxy,
}

impl RecordFixture {
    /// Starts a server with these further arguments. The client's key is Ann's.
    pub(super) fn new(args: &[&str]) -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        site.admit(&[&format!("{} ann@laptop", site.client.line)]);
        let file = site.path().join("records.jsonl");
        let path = file.to_str().expect("test paths are text");
        let args = [&["--listen", "127.0.0.1:0", "--audit-log", path], args].concat();
        let sproxy = LoopbackSproxy::with(&site, echo.address, &args, None);
        Self { site, file, sproxy }
    }

    pub(super) fn client(&self, args: &[&str]) -> Cproxy {
        let (site, server) = (&self.site, self.sproxy.address);
        Cproxy::with(site, server, "cproxy", &site.client, args).attached()
    }

    /// Waits for the `count`th record of an event, and returns it.
    #[track_caller]
    pub(super) fn record(&self, event: &str, count: usize) -> Value {
        wait_for(&self.file, event, count)
    }

    /// Waits for a record of an event with this reason, and returns it.
    #[track_caller]
    pub(super) fn record_with(&self, event: &str, reason: &str) -> Value {
        let mut found = None;
        wait(&format!("{event} with the reason {reason} in {}", self.file.display()), || {
            found = events(&self.file, event).into_iter().find(|record| record["reason"] == reason);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    pub(super) fn count(&self, event: &str) -> usize {
        events(&self.file, event).len()
    }

    /// Resets the client's tunnel's session by the server's operator.
    fn kill(&self, client: &Cproxy, application: SocketAddr) {
        let (site, program) = (&self.site, &self.sproxy.program);
        let session = session_of(&status(site, "cproxy", &client.program), application);
        let socket = control(site, "sproxy", program);
        let said = operate(site, &["sessions", "kill", &session.to_string(), "--control", &socket]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

/// Returns the records of an event.
fn events(file: &Path, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    // The last line may not be complete yet.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let records = lines.map(|line| serde_json::from_str::<Value>(line).expect("it is JSON"));
    records.filter(|record| record["event"] == event).collect()
}

#[track_caller]
fn wait_for(file: &Path, event: &str, count: usize) -> Value {
    let mut found = Vec::new();
    wait(&format!("record {count} of {event} in {}", file.display()), || {
        found = events(file, event);
        found.len() >= count
    });
    found.swap_remove(count - 1)
}

/// Returns the addresses on which a client has listened, in the order of its log.
pub(super) fn listens(program: &RunningProgram) -> Vec<SocketAddr> {
    let log = program.log();
    let lines = log.lines().filter_map(|line| line.split("INFO listening on ").nth(1));
    lines.filter_map(|address| address.trim().parse().ok()).collect()
}

/// Exchanges some bytes, and returns the connection.
pub(super) fn exchange(listen: SocketAddr, text: &[u8]) -> TcpStream {
    let mut stream = dial(listen);
    stream.write_all(text).expect("it is connected");
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).expect("it comes back");
    stream
}

/// Ends a connection with a reset.
pub(super) fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("it is TCP");
    drop(stream);
}

/// Returns the recipes of the document for a file.
fn recipes(file: &Path) -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/records.md");
    let page = fs::read_to_string(page).expect("the document is there");
    let path = file.to_str().expect("test paths are text");
    let recipes = page.lines().filter(|line| line.starts_with("jq "));
    recipes.map(|recipe| recipe.replace("records.jsonl", path)).collect()
}

/// Returns what a recipe prints.
#[track_caller]
fn run(recipe: &str) -> String {
    let run = Command::new("sh").args(["-c", recipe]).stderr(Stdio::inherit()).output();
    let run = run.expect("sh and jq are installed");
    assert!(run.status.success(), "{recipe}");
    String::from_utf8(run.stdout).expect("text")
}

/// Runs the recipes of the document on a file, and returns what they print.
fn run_recipes(file: &Path) -> Vec<String> {
    let start = wait_for(file, "started", 1);
    let day = &start["time"].as_str().expect("text")[..10];
    recipes(file).iter().map(|recipe| run(&recipe.replace("2026-11-30", day))).collect()
}

#[test]
fn each_end_of_a_session_is_recorded_with_its_bytes_and_its_reason() {
    let all = RecordFixture::new(&[]);
    let client = all.client(&[]);

    let mut stream = exchange(client.listen, b"in order");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(stream.read(&mut [0]).expect("its end comes"), 0);
    let ended = all.record("session-ended", 1);
    assert_eq!((&ended["end"], &ended["target"]), (&"order".into(), &"the default target".into()));
    assert_eq!((&ended["sent_bytes"], &ended["received_bytes"]), (&8.into(), &8.into()));
    assert_eq!(ended["key_name"], "ann@laptop");

    reset(exchange(client.listen, b"reset"));
    let ended = all.record("session-ended", 2);
    assert_eq!((&ended["end"], &ended["reason"]), (&"reset".into(), &"application".into()));

    let mut killed = exchange(client.listen, b"killed");
    all.kill(&client, killed.local_addr().expect("it is connected"));
    let why = killed.read(&mut [0]).expect_err("it is reset");
    assert_eq!(why.kind(), ErrorKind::ConnectionReset);
    let ended = all.record("session-ended", 3);
    assert_eq!((&ended["end"], &ended["reason"]), (&"killed".into(), &"killed".into()));
    assert_eq!(all.record("killed", 1)["session"], ended["session"]);
    assert_eq!(all.count("session-opened"), 3);
}

#[test]
fn targets_that_refuse_or_reset_and_targets_that_are_not_permitted_are_recorded() {
    let resetting = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let resets = resetting.local_addr().expect("it listens").to_string();
    let refuses = refused().to_string();
    let all = RecordFixture::new(&["--permit", &resets, "--permit", &refuses]);
    let forwards = [&resets, &refuses, "192.0.2.1:1"].map(|target| format!("127.0.0.1:0:{target}"));
    let [a, b, c] = forwards.each_ref().map(String::as_str);
    let client = all.client(&["-L", a, "-L", b, "-L", c]);
    let listen = listens(&client.program);

    let mut from_target = dial(listen[1]);
    from_target.write_all(b"x").expect("it is connected");
    let mut target = resetting.accept().expect("it is connected").0;
    target.read_exact(&mut [0]).expect("it comes");
    reset(target);
    let ended = all.record("session-ended", 1);
    assert_eq!((&ended["end"], &ended["target"]), (&"target-reset".into(), &resets.into()));

    for (count, listen, reason) in [(1, listen[2], "refused"), (2, listen[3], "not-permitted")] {
        let _ = dial(listen).read(&mut [0]);
        assert_eq!(all.record("session-refused", count)["reason"], reason);
    }
    assert_eq!(all.count("session-opened"), 1);
}

#[test]
fn a_record_tells_who_came_and_the_recipes_of_the_document_read_it() {
    if !skip::can_find("usage::records (recipes)", &["jq"]) {
        return;
    }
    let all = RecordFixture::new(&[]);
    let mut client = all.client(&[]);
    let admitted = all.record("admitted", 1);
    assert_eq!((&admitted["v"], &admitted["key_name"]), (&1.into(), &"ann@laptop".into()));
    assert_eq!((&admitted["from"], &admitted["name"]), (&"127.0.0.1".into(), &"cproxy".into()));
    reset(exchange(client.listen, b"some bytes"));
    all.record("session-ended", 1);

    let stranger = all.site.key("stranger");
    let refused = connect(&all.site, all.sproxy.address, &stranger, &["127.0.0.1:1"]).output();
    assert_eq!(refused.expect("it runs").status.code(), Some(3));
    let refused = all.record("refused", 1);
    assert_eq!((&refused["reason"], &refused["is_final"]), (&"key-unknown".into(), &true.into()));
    assert_eq!(refused["key"], stranger.identity.public_key().fingerprint().as_str());

    client.program.signal(Signal::TERM);
    client.program.end();
    let ended = all.record("tunnel-ended", 1);
    assert_eq!((&ended["is_by_client"], &ended["reason"]), (&true.into(), &"done".into()));
    assert_ne!(ended["carriers"], 0);

    let [day, bytes, refusals, odd, gaps, whole] = run_recipes(&all.file).try_into().expect("six");
    // On a busy machine, the client may change its carrier.
    let is_change = |line: &&str| line.contains("\tattached\t") || line.contains("\tdetached\t");
    assert_eq!(day.lines().filter(|line| !is_change(line)).count(), 4, "{day}");
    assert!(bytes.starts_with("ann@laptop\t") && bytes.trim_end().ends_with("\t1"), "{bytes}");
    assert_eq!(refusals, "key-unknown\t1\t127.0.0.1\n");
    assert_eq!(odd.lines().count(), 1, "{odd}");
    assert_eq!(gaps, "0\n");
    let text = fs::read_to_string(&all.file).expect("it is there");
    assert_eq!(whole, text);
    // After a torn line, the last recipe prints what the others can read.
    fs::write(&all.file, format!("{{\"torn\":\"x\n{text}")).expect("it is ours");
    assert_eq!(run(recipes(&all.file).last().expect("there are some")), text);
}

#[test]
fn a_listener_and_the_connections_to_it_are_recorded() {
    let (all, inside) = (RecordFixture::new(&[]), Echo::start());
    let mut client = all.client(&["-R", &format!("127.0.0.1:0:{}", inside.address)]);
    let listening = all.record("listening", 1);
    let address = listening["addresses"][0].as_str().expect("an address");
    let visitor = exchange(address.parse().expect("an address"), b"visit");
    let opened = all.record("session-opened", 1);
    let from = visitor.local_addr().expect("it is connected").to_string();
    assert_eq!(opened["origin"], from.as_str());
    let target = format!("accepted by the listener {}", listening["session"]);
    assert_eq!(opened["target"], target.as_str());
    client.program.signal(Signal::TERM);
    client.program.end();
    assert_eq!(all.record("session-ended", 1)["received_bytes"], 5);
    assert_eq!(all.record("listening-ended", 1)["addresses"], listening["addresses"]);
}

#[test]
fn a_renamed_file_is_left_at_a_reload_and_no_record_is_lost() {
    let mut all = RecordFixture::new(&[]);
    let mode = fs::metadata(&all.file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = all.client(&[]);
    let old = all.site.path().join("records.1");
    fs::rename(&all.file, &old).expect("the folder is ours");
    drop(exchange(client.listen, b"before"));
    wait_for(&old, "session-ended", 1);
    all.sproxy.program.signal(Signal::HUP);
    assert_eq!(all.record("reloaded", 1)["is_applied"], true);
    drop(exchange(client.listen, b"after"));
    all.record("session-ended", 1);
    assert_eq!(events(&old, "session-ended").len(), 1);
    // Without its folder, the file that is open remains in use.
    let folder = all.site.path().join("gone");
    fs::create_dir(&folder).expect("the folder is ours");
    let kept = all.site.path().join("records.2");
    fs::rename(&all.file, &kept).expect("the folder is ours");
    fs::create_dir(&all.file).expect("the folder is ours");
    all.sproxy.program.signal(Signal::HUP);
    all.sproxy.program.wait_for("--audit-log: cannot write ");
    wait_for(&kept, "reloaded", 2);
    all.sproxy.program.signal(Signal::TERM);
    all.sproxy.program.end();
    wait_for(&kept, "stopped", 1);
}

#[test]
fn a_session_that_outlives_a_worker_is_opened_once_and_its_end_has_all_its_bytes() {
    let mut all = RecordFixture::new(&[]);
    let client = all.client(&[]);
    let steady = Steady::start(client.listen);
    let mut stream = exchange(client.listen, b"one");
    all.record("session-opened", 2);
    all.sproxy.program.kill_worker();
    all.sproxy.program.wait_for("another one continues");
    assert_eq!(all.record("restarted", 1)["cause"], "SIGKILL");
    all.record("attached", 1);
    stream.write_all(b"three").expect("it continues");
    stream.read_exact(&mut [0; 5]).expect("it comes back");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let ended = all.record("session-ended", 1);
    assert_eq!((&ended["sent_bytes"], &ended["received_bytes"]), (&8.into(), &8.into()));
    assert_eq!((&ended["end"], &ended["key_name"]), (&"order".into(), &"ann@laptop".into()));
    steady.finish();
    all.record("session-ended", 2);
    assert_eq!((all.count("session-opened"), all.count("admitted")), (2, 1));
}

#[test]
fn a_file_that_cannot_be_created_is_an_error_at_the_start() {
    let site = LoopbackSite::new();
    let path = site.path().join("none/records");
    let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0", "--identity"]);
    command.arg(site.server_key()).arg("--authorized-keys").arg(site.authorized_keys());
    command.arg("--audit-log").arg(&path);
    let mut program = RunningProgram::start("sproxy", site.path(), command);
    let (code, line) = program.end();
    assert_eq!(code, Some(1));
    assert!(line.contains("--audit-log: cannot write ") && line.contains("none/records"), "{line}");
}

#[test]
fn the_status_and_the_log_name_the_key() {
    let all = RecordFixture::new(&[]);
    let _client = all.client(&[]);
    let status = status(&all.site, "sproxy", &all.sproxy.program);
    assert_eq!(status["tunnels"][0]["client"]["key_name"], "ann@laptop");
    assert!(all.sproxy.program.log().contains(" key_name=ann@laptop"));
}
