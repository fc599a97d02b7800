//! Kill, reconnect and drain under load: continuing sessions lose nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread::JoinHandle;

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::operator::{
    answering, control, operate, operate_alone, session_of, status,
};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};
use etcp_testkit::loopback::{RunningProgram, connect, etcp};
use etcp_testkit::wait::end_of;

fn served() -> (LoopbackSite, LoopbackSproxy, Cproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    (site, sproxy, cproxy)
}

/// Opens a session over which data have been exchanged.
fn session(cproxy: &Cproxy) -> TcpStream {
    let mut stream = dial(cproxy.listen);
    stream.write_all(b"ping").expect("a session takes it");
    stream.read_exact(&mut [0; 4]).expect("it comes back");
    stream
}

/// Returns how a session ends whose application only reads.
fn end(mut stream: &TcpStream) -> Option<ErrorKind> {
    stream.read(&mut [0; 16]).err().map(|error| error.kind())
}

fn count(site: &LoopbackSite, cproxy: &Cproxy) -> usize {
    let status = status(site, "cproxy", &cproxy.program);
    status["tunnels"][0]["sessions"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_killed_session_is_reset_on_both_sides_and_the_others_go_on() {
    let (site, sproxy, mut cproxy) = served();
    let steady: Vec<_> = (0..8).map(|_| Steady::start(cproxy.listen)).collect();
    let victims = [session(&cproxy), session(&cproxy)];
    let client = control(&site, "cproxy", &cproxy.program);
    let told = status(&site, "cproxy", &cproxy.program);
    let id = |n: usize| session_of(&told, victims[n].local_addr().expect("an address")).to_string();
    let tunnel = told["tunnels"][0]["tunnel"].as_str().expect("it has a name").to_owned();

    let said = operate(&site, &["sessions", "kill", &id(0), "--control", &client]);
    assert_eq!((said.code, said.out), (Some(0), format!("session {} is reset\n", id(0))));
    assert_eq!(end(&victims[0]), Some(ErrorKind::ConnectionReset));
    // The kill is requested at the server's side, by the tunnel's name alone or with the socket.
    let server = control(&site, "sproxy", &sproxy.program);
    let named = format!("{tunnel}/{}", id(1));
    let said = operate(&site, &["sessions", "kill", &named, "--control", &server]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(end(&victims[1]), Some(ErrorKind::ConnectionReset));
    wait("both sides to forget them", || {
        let sessions = status(&site, "sproxy", &sproxy.program);
        let there = sessions["tunnels"][0]["sessions"].as_array().map(Vec::len);
        there == Some(8) && count(&site, &cproxy) == 8
    });
    cproxy.program.wait_for("ended by the operator");

    for (wrong, why) in [
        (id(0), format!("there is no session {}", id(0))),
        ("0".to_owned(), "there is no session 0".to_owned()),
        (format!("00000000/{}", id(0)), "there is no tunnel 00000000".to_owned()),
    ] {
        for socket in [&client, &server] {
            let said = operate(&site, &["sessions", "kill", &wrong, "--control", socket]);
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.err.contains(&why) && said.err.lines().count() == 1, "{said:?}");
        }
    }
    let said = operate(&site, &["sessions", "kill", "everything"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    steady.into_iter().for_each(Steady::finish);
}

#[test]
fn a_session_is_killed_in_an_outage_and_the_peer_hears_of_it_after() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let relay = LoopbackRelay::start([127, 0, 0, 7], sproxy.address);
    let cproxy = Cproxy::start(&site, relay.address, "cproxy").attached();
    let (steady, victim) = (Steady::start(cproxy.listen), session(&cproxy));
    let told = status(&site, "cproxy", &cproxy.program);
    let id = session_of(&told, victim.local_addr().expect("an address")).to_string();
    sproxy.program.freeze();
    relay.cut();
    let client = control(&site, "cproxy", &cproxy.program);
    let said = operate(&site, &["sessions", "kill", &id, "--control", &client]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(end(&victim), Some(ErrorKind::ConnectionReset), "at once on this side");
    sproxy.program.signal(rustix::process::Signal::CONT);
    wait("the server to hear of it", || {
        let there = status(&site, "sproxy", &sproxy.program);
        there["tunnels"][0]["sessions"].as_array().is_some_and(|sessions| sessions.len() == 1)
    });
    steady.goes_on();
    steady.finish();
}

#[test]
fn connecting_again_on_demand_under_load_loses_nothing() {
    let (site, _sproxy, cproxy) = served();
    let steady: Vec<_> = (0..8).map(|_| Steady::start(cproxy.listen)).collect();
    let client = control(&site, "cproxy", &cproxy.program);
    for times in 1..=5 {
        let said = operate(&site, &["reconnect", "--control", &client]);
        assert_eq!(said.code, Some(0), "{said:?}");
        wait("it to be attached again", || cproxy.attached_again() >= times);
        steady.iter().for_each(Steady::goes_on);
    }
    let told = status(&site, "cproxy", &cproxy.program);
    let tunnel = &told["tunnels"][0];
    assert!(tunnel["carriers"].as_u64().is_some_and(|it| it >= 6), "{tunnel}");
    // A busy machine may have doubted the last carrier for a moment: then another one is asked for.
    wait("a loss that was asked for", || {
        let told = status(&site, "cproxy", &cproxy.program);
        let is_asked_for = told["tunnels"][0]["last_loss"]["kind"] == "replaced";
        is_asked_for || {
            let before = cproxy.attached_again();
            operate(&site, &["reconnect", "--control", &client]);
            wait("it to be attached again", || cproxy.attached_again() > before);
            false
        }
    });
    steady.into_iter().for_each(Steady::finish);
}

#[test]
fn a_drained_client_takes_nothing_new_and_ends_with_its_last_session() {
    let (site, mut sproxy, mut cproxy) = served();
    let mut steady: Vec<_> = (0..4).map(|_| Steady::start(cproxy.listen)).collect();
    let client = control(&site, "cproxy", &cproxy.program);
    let said = operate(&site, &["drain", "--control", &client]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("takes no new sessions; 4 sessions continue"), "{said:?}");
    wait("its listener to be gone", || TcpStream::connect(cproxy.listen).is_err());
    assert_eq!(status(&site, "cproxy", &cproxy.program)["is_draining"], true);
    while let Some(one) = steady.pop() {
        assert!(cproxy.program.is_running(), "sessions are left");
        steady.iter().for_each(Steady::goes_on);
        one.finish();
    }
    assert_eq!(cproxy.program.end().0, Some(0), "{}", cproxy.program.log());
    sproxy.program.wait_for("closed by the client: ended as asked");
}

#[test]
fn a_drained_server_takes_nothing_new_and_ends_with_its_last_session() {
    let (site, mut sproxy, cproxy) = served();
    let steady: Vec<_> = (0..4).map(|_| Steady::start(cproxy.listen)).collect();
    let server = control(&site, "sproxy", &sproxy.program);
    let said = operate(&site, &["drain", "--control", &server]);
    assert!(said.out.contains("4 sessions continue"), "{said:?}");
    // The client waits for a successor, which does not exist.
    let mut late = dial(cproxy.listen);
    late.write_all(b"ping").expect("it is taken");
    let mut newcomer = Cproxy::start(&site, sproxy.address, "newcomer");
    newcomer.program.wait_for("takes no new clients");
    // Existing tunnels get their carriers.
    let client = control(&site, "cproxy", &cproxy.program);
    let before = cproxy.attached_again();
    assert_eq!(operate(&site, &["reconnect", "--control", &client]).code, Some(0));
    wait("it to be attached again", || cproxy.attached_again() > before);
    steady.iter().for_each(Steady::goes_on);
    assert!(sproxy.program.is_running());
    late.set_nonblocking(true).expect("it is open");
    assert_eq!(end(&late), Some(ErrorKind::WouldBlock), "nobody has answered or reset it");
    steady.into_iter().for_each(Steady::finish);
    assert_eq!(sproxy.program.end().0, Some(0), "{}", sproxy.program.log());
}

/// Returns where the server listens for a client, as its log says.
fn remote(program: &mut RunningProgram, count: usize) -> SocketAddr {
    let line = program.wait_for_count("the server listens on ", count);
    let text = line.split("listens on ").nth(1).and_then(|it| it.split(' ').next());
    text.and_then(|text| text.parse().ok()).expect("an address")
}

/// Connections that are made while the server drains, and wait for its successor.
struct LateConnections {
    open: TcpStream,
    half_closed: TcpStream,
    /// Sends more than the queues of a session hold.
    bulk: TcpStream,
    content: Vec<u8>,
    writing: JoinHandle<std::io::Result<()>>,
}

impl LateConnections {
    fn open(proxy: SocketAddr) -> Self {
        let content: Vec<u8> =
            (0..2_000_000_u32).map(|number| (number / 7).to_le_bytes()[0]).collect();
        let [mut open, mut half_closed, bulk] = [(); 3].map(|()| dial(proxy));
        open.write_all(b"ping").expect("it is taken");
        half_closed.write_all(b"ping").expect("it is taken");
        half_closed.shutdown(Shutdown::Write).expect("it is open");
        let mut writer = bulk.try_clone().expect("it is open");
        let sent = content.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).and_then(|()| writer.shutdown(Shutdown::Write))
        });
        Self { open, half_closed, bulk, content, writing }
    }

    /// Checks that everything comes back.
    fn finish(mut self) {
        self.open.read_exact(&mut [0; 4]).expect("the successor has it");
        let mut rest = Vec::new();
        self.half_closed.read_to_end(&mut rest).expect("the successor has it");
        assert_eq!(rest, b"ping");
        rest.clear();
        self.bulk.read_to_end(&mut rest).expect("the successor has it");
        assert!(rest == self.content, "{} bytes came back", rest.len());
        self.writing.join().expect("it writes").expect("it is taken");
    }
}

/// [CLOSE-2]
#[test]
fn a_drained_server_leaves_its_port_to_a_successor_and_new_connections_wait_for_it() {
    let (site, echo) = (LoopbackSite::new(), Echo::start());
    let mut old = LoopbackSproxy::start(&site, echo.address);
    let port = HeldPort::take();
    let forward = format!("127.0.0.1:{}:{}", port.number(), echo.address);
    let key = &site.client;
    let mut busy = Cproxy::with(&site, old.address, "busy", key, &["-R", &forward]).attached();
    let idle = Cproxy::start(&site, old.address, "idle").attached();
    let steady: Vec<_> = (0..4).map(|_| Steady::start(busy.listen)).collect();
    let there = remote(&mut busy.program, 1);
    let through = Steady::start(there);
    let server = control(&site, "sproxy", &old.program);
    assert_eq!(operate(&site, &["drain", "--control", &server]).code, Some(0));
    wait("the address of -R to be free", || TcpStream::connect(there).is_err());

    let late = LateConnections::open(busy.listen);
    let address = old.address.to_string();
    let mut new = LoopbackSproxy::with(&site, echo.address, &["--listen", &address], None);
    assert_eq!(new.address, old.address);
    drop(session(&idle));
    assert!(connect_says_hello(&site, new.address), "one that waits for an answer, too");
    new.program.wait_for("tunnel");
    let third = refused_start(&site, &address);
    assert!(third.contains("choose another port"), "{third}");
    // Existing sessions get their carriers from the old one.
    let client = control(&site, "cproxy", &busy.program);
    for _ in 0..2 {
        let before = busy.attached_again();
        assert_eq!(operate(&site, &["reconnect", "--control", &client]).code, Some(0));
        wait("it to be attached again", || busy.attached_again() > before);
        steady.iter().for_each(Steady::goes_on);
    }
    through.goes_on();
    assert!(old.program.is_running());
    steady.into_iter().for_each(Steady::finish);
    through.finish();
    assert_eq!(old.program.end().0, Some(0), "{}", old.program.log());

    late.finish();
    let again = remote(&mut busy.program, 2);
    assert_eq!(again, there);
    Steady::start(again).finish();
    new.program.wait_for("only this one has the port now");
    // The kernel would still share the port with every server of this user.
    for _ in 0..2 {
        let third = refused_start(&site, &address);
        assert!(third.contains("choose another port"), "{third}");
        new.program.kill_worker();
        new.program.wait_for("another one continues");
        Steady::start(again).finish();
    }
}

/// Starts a server at an address that is not free, and returns its message.
#[track_caller]
fn refused_start(site: &LoopbackSite, address: &str) -> String {
    let mut command = etcp(site.path(), ["sproxy", "--target", "127.0.0.1:9", "--listen", address]);
    command.arg("--identity").arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let output = end_of(command.spawn().expect("it starts"));
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("it says text")
}

/// Returns whether `etcp connect` succeeds.
fn connect_says_hello(site: &LoopbackSite, server: SocketAddr) -> bool {
    let mut child = connect(site, server, &site.client, &[]).spawn().expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"hello").expect("it reads");
    drop(input);
    end_of(child).stdout == b"hello"
}

#[test]
fn a_drain_may_have_a_limit_and_may_be_waited_for() {
    let (site, mut sproxy, mut cproxy) = served();
    let mut steady = Steady::start(cproxy.listen);
    let client = control(&site, "cproxy", &cproxy.program);
    let args = ["drain", "--timeout", "1s", "--wait", "--control", &client];
    let said = operate(&site, &args);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(steady.ended().is_some(), "the limit is reached");
    assert_eq!(cproxy.program.end().0, Some(0));
    let server = control(&site, "sproxy", &sproxy.program);
    let said = operate(&site, &["drain", "--now", "--wait", "--control", &server]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(sproxy.program.end().0, Some(0));
}

#[test]
fn without_a_session_a_drained_proxy_ends_at_once_also_in_an_outage() {
    let site = LoopbackSite::new();
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    let mut cproxy = Cproxy::start(&site, nowhere, "cproxy");
    wait("its socket", || operate_alone(&site, &["status"]).code == Some(0));
    let said = operate(&site, &["drain", "--wait"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(cproxy.program.end().0, Some(0));
}

#[test]
fn a_drained_proxy_leaves_the_path_of_its_control_socket_to_its_successor() {
    let site = LoopbackSite::new();
    let path = site.path().join("sproxy.sock");
    let control = path.to_str().expect("text").to_owned();
    let args = ["--listen", "127.0.0.1:0", "--control", &control];
    let start = || LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    let mut first = start();
    let mut client = connect(&site, first.address, &site.client, &[]).spawn().expect("it starts");
    let (mut input, output) = (client.stdin.take().expect("piped"), client.stdout.as_mut());
    input.write_all(b"ping").expect("it takes it");
    output.expect("piped").read_exact(&mut [0; 4]).expect("it comes back");
    // While it is not being drained, the path is its own.
    let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0"]);
    command.arg("--identity").arg(site.server_key()).args(["--control", &control]);
    let (code, line) = RunningProgram::start("too-early", site.path(), command).end();
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("another process listens there: give each its own path"), "{line}");

    let said = operate(&site, &["drain", "--control", &control]);
    let moved = site.path().join(format!("sproxy.{}.sock", first.program.id()));
    let now_at = format!("its control socket is now {}", moved.display());
    assert!(said.code == Some(0) && said.out.contains(&now_at), "{said:?}");
    let mut second = start();
    assert_eq!(answering(&site, &path), (second.program.id().into(), false));
    assert_eq!(answering(&site, &moved), (first.program.id().into(), true));
    drop(input);
    assert!(client.wait().expect("it ends").success());
    assert_eq!(first.program.end().0, Some(0), "{}", first.program.log());
    assert!(!moved.exists() && path.exists());

    // The command follows the socket: the old path is free when the command is done.
    let said = operate(&site, &["drain", "--wait", "--control", &control]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(second.program.end().0, Some(0));
    // A killed proxy leaves its file behind, which then belongs to nobody.
    start().program.kill();
    assert!(path.exists());
    let last = start();
    assert_eq!(answering(&site, &path), (last.program.id().into(), false));
}
