//! Records of what does not end as most do: sessions that were never connected, ends that only one
//! side knows, refusals of tunnels that exist, a full disk.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use etcp_testkit::checked::accept;
use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier};
use etcp_testkit::loopback::operator::{control, operate, status};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite};
use etcp_testkit::skip;
use eternaltcp::tls::Identity;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::Signal;
use serde_json::Value;

use super::records::{RecordFixture, exchange, listens, reset};
use super::surroundings::{address, sproxy};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Returns a listener that answers nobody, because its queue is full.
fn silent() -> (TcpListener, TcpStream) {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a descriptor");
    bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("loopback has ports");
    listen(&listener, 0).expect("it is bound");
    let listener = TcpListener::from(listener);
    let filling = TcpStream::connect(listener.local_addr().expect("it is bound"));
    (listener, filling.expect("it has one place"))
}

/// Waits until the server has this one session of a single client, and returns it.
#[track_caller]
fn session(all: &RecordFixture, is_meant: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    wait("the session", || {
        let status = status(&all.site, "sproxy", &all.sproxy.program);
        found = status["tunnels"][0]["sessions"][0].clone();
        is_meant(&found)
    });
    found
}

/// Resets the only session by the server's operator.
#[track_caller]
fn kill(all: &RecordFixture, session: &Value) {
    let socket = control(&all.site, "sproxy", &all.sproxy.program);
    let said = operate(
        &all.site,
        &["sessions", "kill", &session["session"].to_string(), "--control", &socket],
    );
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_session_that_ends_before_its_target_is_connected_is_recorded_with_the_reason() {
    let (target, _filling) = silent();
    let target = target.local_addr().map(|it| (it.to_string(), target)).expect("it is bound");
    let all = RecordFixture::new(&["--permit", &target.0]);
    let mut client = all.client(&["-L", &format!("127.0.0.1:0:{}", target.0)]);
    let listen = listens(&client.program)[1];
    let is_new = |found: &Value| found["stage"] == "opening";

    let _killed = dial(listen);
    kill(&all, &session(&all, is_new));
    let refused = all.record("session-refused", 1);
    assert_eq!((&refused["reason"], &refused["target"]), (&"killed".into(), &target.0.into()));
    assert_eq!(all.record("killed", 1)["session"], refused["session"]);

    let given_up = dial(listen);
    session(&all, is_new);
    reset(given_up);
    assert_eq!(all.record("session-refused", 2)["reason"], "application");

    let _open = dial(listen);
    session(&all, is_new);
    client.program.signal(Signal::TERM);
    client.program.end();
    assert_eq!(all.record("session-refused", 3)["reason"], "tunnel-over");
    all.record("tunnel-ended", 1);
    assert_eq!((all.count("session-opened"), all.count("session-ended")), (0, 0));
}

#[test]
fn a_session_has_not_ended_while_its_client_lacks_bytes_also_for_the_next_worker() {
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let at = target.local_addr().expect("it listens").to_string();
    let all = RecordFixture::new(&["--permit", &at]);
    let client = all.client(&["-L", &format!("127.0.0.1:0:{at}")]);
    let mut near = dial(listens(&client.program)[1]);
    near.write_all(b"?").expect("it is connected");
    near.shutdown(Shutdown::Write).expect("it is connected");
    let mut far = accept(&target);
    far.read_to_end(&mut Vec::new()).expect("the end arrives");
    client.program.freeze();
    far.write_all(b"tail").expect("it is connected");
    drop(far);
    session(&all, |found| found["sent_bytes"] == 4);
    all.sproxy.program.kill_worker();
    all.record("restarted", 1);
    let found = session(&all, |found| found["sent_bytes"] == 4);
    assert_eq!(all.count("session-ended"), 0);
    kill(&all, &found);
    let ended = all.record("session-ended", 1);
    assert_eq!((&ended["end"], &ended["sent_bytes"]), (&"killed".into(), &4.into()));
    assert_eq!(all.record("killed", 1)["session"], ended["session"]);
}

#[test]
fn a_connection_to_a_listener_that_waited_too_long_has_an_end_of_its_own() {
    let all = RecordFixture::new(&["--wait", "100ms"]);
    let mut client = all.client(&["-R", "127.0.0.1:0:127.0.0.1:9"]);
    let at = all.record("listening", 1)["addresses"][0].take();
    client.program.kill();
    all.record("detached", 1);
    let _visitor = dial(at.as_str().and_then(|at| at.parse().ok()).expect("an address"));
    let ended = all.record("session-ended", 1);
    assert_eq!((&ended["end"], &ended["reason"]), (&"timed-out".into(), &"timed-out".into()));
    assert_eq!(all.count("tunnel-ended"), 0);
}

#[test]
fn refusals_of_an_unknown_version_and_of_an_old_request_are_recorded() {
    let all = RecordFixture::new(&[]);
    let connect = |key: &Identity| RawCarrier::connect(HERE, all.sproxy.address, key);
    let user = &all.site.client.identity;
    let own = Identity::generate().expect("randomness");
    let mut peer = HostilePeer::new(connect(user));
    assert_eq!(peer.ask_new(&own, "twice"), PeerAnswer::Attached);
    let id = peer.tunnel.id().expect("the server gave one");
    let old = HostilePeer::new(connect(&own)).ask_resume(id);
    assert!(matches!(old, PeerAnswer::Refused(_)), "{old:?}");
    let stale = all.record("refused", 1);
    assert_eq!((&stale["reason"], &stale["is_final"]), (&"stale".into(), &false.into()));
    assert_eq!(stale["key"], own.public_key().fingerprint().as_str());

    let versions = [99_u32.to_le_bytes(), 99_u32.to_le_bytes()].concat();
    let hello = [b"etcp", &versions[..], &[0; 64]].concat();
    let length = u32::try_from(hello.len()).expect("it is short");
    let header = [9, 0, 0, 0, length].map(u32::to_le_bytes).concat();
    let mut late = connect(user);
    assert!(late.send(&[header, hello].concat()));
    let refused = all.record("refused", 2);
    assert_eq!((&refused["reason"], &refused["is_final"]), (&"version".into(), &true.into()));
    assert_eq!(refused["key"], user.public_key().fingerprint().as_str());
    assert!(all.sproxy.program.log().contains("refused 127.0.0.1:"));
}

#[test]
fn a_drain_is_recorded_with_its_limit_and_only_once() {
    let all = RecordFixture::new(&[]);
    let client = all.client(&[]);
    let stream = exchange(client.listen, b"goes on");
    let socket = control(&all.site, "sproxy", &all.sproxy.program);
    let said = operate(&all.site, &["drain", "--timeout", "1h", "--control", &socket]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let draining = all.record("draining", 1);
    assert_eq!((&draining["limit_ms"], &draining["sessions"]), (&3_600_000.into(), &1.into()));
    all.sproxy.program.kill_worker();
    all.record("restarted", 1);
    drop(stream);
    all.record("stopped", 1);
    assert_eq!(all.count("draining"), 1);
    assert_eq!(all.record("tunnel-ended", 1)["reason"], "drained");
}

#[test]
fn a_full_disk_holds_nothing_up_and_what_it_lacks_is_counted() {
    let test = "usage::record_ends (full)";
    if !skip::can_run(test, &["unshare", "mount", "nsenter", "jq"]) {
        return;
    }
    let site = LoopbackSite::new();
    let folder = site.path().join("small");
    std::fs::create_dir(&folder).expect("the folder is ours");
    let file = folder.join("records");
    let server = {
        let mut server = sproxy(&site, Echo::start().address);
        server.arg("--audit-log").arg(&file);
        server
    };
    let script = "mount -t tmpfs -o size=8k none \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(&folder);
    command.arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        value.map(|value| command.env(name, value));
    }
    let mut server = RunningProgram::start("sproxy", site.path(), command);
    let client = Cproxy::start(&site, address(&mut server), "cproxy").attached();
    for number in 0..100_u32 {
        let mut stream = exchange(client.listen, &number.to_le_bytes());
        stream.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(stream.read(&mut [0]).expect("its end comes"), 0);
    }
    server.wait_for("--audit-log: cannot write ");
    let inside = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &server.id().to_string()]).args(args).arg(&folder);
        assert!(command.status().expect("it runs").success(), "{args:?}");
    };
    inside(&["mount", "-o", "remount,size=1m"]);
    drop(exchange(client.listen, b"there is room"));
    let seen = format!("/proc/{}/root{}", server.id(), file.display());
    let mut whole = Vec::new();
    wait("the last end", || {
        whole = whole_lines(&seen);
        whole.iter().any(|it| it["sent_bytes"] == 13)
    });
    let ended = whole.iter().filter(|it| it["event"] == "session-ended").count();
    let counts = whole.iter().filter_map(|it| it["count"].as_u64());
    let lost = counts.sum::<u64>();
    assert!(ended < 101 && lost + ended as u64 >= 101, "{lost} lost, {ended} written");
}

/// Returns the lines that are whole, read as the document shows.
fn whole_lines(file: &str) -> Vec<Value> {
    let output = Command::new("jq").args(["-cR", "fromjson? // empty", file]).output();
    let output = output.expect("it runs").stdout;
    let lines = String::from_utf8(output).expect("text");
    lines.lines().map(|line| serde_json::from_str(line).expect("it is whole")).collect()
}
