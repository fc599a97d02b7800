//! `-R`: the server listens, and a program beside the client answers, behind NAT and across changes
//! of its address; who may listen, and who gets an address when several want it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use etcp_testkit::checked::{self, Rate};
use etcp_testkit::loopback::program::{RunningProgram, measure, wait};
use etcp_testkit::loopback::socket::pace;
use etcp_testkit::loopback::{Cproxy, Echo, Key, LoopbackSite, LoopbackSproxy, PATIENCE, Steady};
use etcp_testkit::streams::Streams;
use etcp_testkit::{
    Direction, HeldPort, IpFamily, NetworkFault, ProxyPair, TestFolder, TestWorld, skip,
};

const LISTENS: &str = "the server listens on ";

/// A server, and an echo beside its clients.
struct RemoteFixture {
    site: LoopbackSite,
    sproxy: LoopbackSproxy,
    echo: Echo,
}

impl RemoteFixture {
    fn new(args: &[&str]) -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        let sproxy = LoopbackSproxy::with(&site, echo.address, &args, None);
        Self { site, sproxy, echo }
    }

    /// Creates the fixture with a server on this port.
    fn at(port: &HeldPort) -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        let sproxy = LoopbackSproxy::at(&site, echo.address, port);
        Self { site, sproxy, echo }
    }

    /// Returns a client that requests a listener at `listen`, whose connections lead to the echo.
    fn client(&self, name: &str, key: &Key, listen: &str) -> Cproxy {
        let forward = format!("{listen}:{}", self.echo.address);
        Cproxy::with(&self.site, self.sproxy.address, name, key, &["-R", &forward])
    }

    /// Returns such a client with the first user's key.
    fn own(&self, name: &str, listen: &str) -> Cproxy {
        self.client(name, &self.site.client, listen)
    }
}

/// Waits until the server listens for the `count`th time, and returns the address.
#[track_caller]
fn listening(program: &mut RunningProgram, count: usize) -> SocketAddr {
    let line = program.wait_for_count(LISTENS, count);
    let text = line.split(LISTENS).nth(1).and_then(|rest| rest.split(' ').next());
    text.expect("the address follows").parse().expect("an address")
}

#[test]
fn the_server_listens_on_loopback_for_a_bare_port_and_carries_what_connects() {
    let setting = RemoteFixture::new(&[]);
    let mut cproxy = setting.own("cproxy", "0");
    let address = listening(&mut cproxy.program, 1);
    assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    let sessions: Vec<_> = (0..5).map(|_| Steady::start(address)).collect();
    sessions.into_iter().for_each(Steady::finish);
}

#[test]
fn localhost_is_both_loopback_addresses_on_either_side() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // A machine without IPv6 has nothing to show here.
    }
    let setting = RemoteFixture::new(&[]);
    let forward = format!("0:{}", setting.echo.address);
    let mut cproxy = Cproxy::with(
        &setting.site,
        setting.sproxy.address,
        "cproxy",
        &setting.site.client,
        &["-R", &forward, "-L", &forward],
    );
    let remote = listening(&mut cproxy.program, 1);
    let line = cproxy.program.wait_for(LISTENS);
    let both = format!("127.0.0.1:{port} and [::1]:{port} for ", port = remote.port());
    assert!(line.contains(&both), "{line}");
    // The line about -L follows the one about --listen.
    let line = cproxy.program.wait_for_count("INFO listening on ", 2);
    let (_, text) = line.split_once("listening on ").expect("it was looked for");
    let local: SocketAddr = text.trim().parse().expect("an address");
    cproxy.program.wait_for(&format!("listening on [::1]:{}", local.port()));
    for port in [remote.port(), local.port()] {
        for host in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(host.parse().expect("an address"), port);
            Steady::start(address).finish();
        }
    }
}

#[test]
fn an_address_of_localhost_that_is_taken_at_the_server_leaves_the_other() {
    let held = HeldPort::take();
    let port = held.number();
    let Ok(_taken) = TcpListener::bind(("::1", port)) else {
        return; // A machine without IPv6 has nothing to show here.
    };
    let mut setting = RemoteFixture::new(&[]);
    let mut cproxy = setting.own("cproxy", &port.to_string());
    assert_eq!(listening(&mut cproxy.program, 1), SocketAddr::from(([127, 0, 0, 1], port)));
    setting.sproxy.program.wait_for(&format!("does not listen on [::1]:{port}: "));
    Steady::start(SocketAddr::from(([127, 0, 0, 1], port))).finish();
}

#[test]
fn cproxy_with_a_remote_forward_alone_does_not_listen_itself() {
    let setting = RemoteFixture::new(&[]);
    let forward = format!("0:{}", setting.echo.address);
    let mut command = etcp_testkit::loopback::etcp(setting.site.path(), ["cproxy", "-R", &forward]);
    command.arg("--server").arg(setting.sproxy.address.to_string());
    command.arg("--identity").arg(&setting.site.client.path);
    command.arg("--known-hosts").arg(setting.site.known_hosts());
    let mut program = RunningProgram::start("alone", setting.site.path(), command);
    Steady::start(listening(&mut program, 1)).finish();
    assert_eq!(program.count("INFO listening on"), 0);
}

#[test]
fn a_client_that_may_not_listen_ends_with_3_and_one_line_that_names_the_rule() {
    let server =
        "the server does not permit listening there (its operator can add it with --permit-listen)";
    let key =
        "the key may not listen there (its line in authorized_keys has permitlisten= without it)";
    for (permits, options, listen, rule) in [
        (&[][..], "", "*:8080", server),
        (&[], "", "127.0.0.1:80", server),
        (&["--permit-listen", "none"], "", "127.0.0.1:0", server),
        (&["--permit-listen", "*:7000-7009"], "", "7010", server),
        (&[], "permitlisten=\"7000\" ", "7001", key),
        (&[], "permitlisten=\"none\" ", "0", key),
    ] {
        let setting = RemoteFixture::new(permits);
        setting.site.admit(&[&format!("{options}{}", setting.site.client.line)]);
        let (code, line) = setting.own("cproxy", listen).program.end();
        assert_eq!(code, Some(3), "{line}");
        assert!(line.starts_with("etcp: -R ") && line.ends_with(rule), "{line}");
    }
}

#[test]
fn an_address_is_refused_to_another_client_until_the_first_one_ends() {
    let setting = RemoteFixture::new(&[]);
    let held = HeldPort::take();
    let port = held.number().to_string();
    let mut first = setting.own("first", &port);
    let address = listening(&mut first.program, 1);
    let steady = Steady::start(address);
    let stranger = setting.site.key("stranger");
    setting.site.admit(&[&setting.site.client.line, &stranger.line]);
    let mut second = setting.own("second", &port);
    second.program.wait_for("it is in use by the client \"first\" of the same key, from 127.0.0.1");
    let mut third = setting.client("third", &stranger, &port);
    let line = third.program.wait_for("it is in use by another client; trying again");
    assert!(line.contains(&format!("-R localhost:{port}:")), "{line}");
    steady.goes_on();
    steady.finish();
    // They do not exit, nor repeat the same line.
    assert_eq!(third.program.count("it is in use by another client"), 1);
    third.program.kill();
    first.program.signal(Signal::TERM);
    assert_eq!(first.program.end().0, Some(0));
    assert_eq!(listening(&mut second.program, 1), address);
    Steady::start(address).finish();
}

#[test]
fn an_address_of_another_program_is_asked_for_until_it_is_free() {
    let setting = RemoteFixture::new(&[]);
    let held = HeldPort::take();
    let taken = TcpListener::bind(("127.0.0.1", held.number())).expect("it is free");
    let address = taken.local_addr().expect("it listens");
    let mut cproxy = setting.own("cproxy", &address.to_string());
    cproxy.program.wait_for("it is in use by another program; trying again");
    drop(taken);
    assert_eq!(listening(&mut cproxy.program, 1), address);
    Steady::start(address).finish();
}

/// [LISTEN-5]
#[test]
fn a_client_that_was_killed_and_started_again_has_its_listener_at_once_and_nobody_is_refused() {
    let setting = RemoteFixture::new(&[]);
    let held = HeldPort::take();
    let port = held.number().to_string();
    let mut first = setting.own("same", &port);
    let address = listening(&mut first.program, 1);
    let (stop, tries) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Connects all the time: there is a listener at every moment.
        let prober = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                TcpStream::connect(address).expect("somebody listens");
                tries.fetch_add(1, Ordering::Relaxed);
                pace();
            }
        });
        first.program.kill();
        let took = measure("from the start of a killed client to its listener", || {
            let mut second = setting.own("same", &port);
            assert_eq!(listening(&mut second.program, 1), address);
            Steady::start(address).finish();
            let before = tries.load(Ordering::Relaxed);
            wait("the prober to go on", || tries.load(Ordering::Relaxed) > before + 10);
            assert_eq!(second.program.count("in use"), 0);
        });
        assert!(took < Duration::from_secs(30), "it took {took:?}");
        stop.store(true, Ordering::Relaxed);
        prober.join().expect("nobody was refused");
    });
}

#[test]
fn a_server_that_was_restarted_listens_again_on_the_same_port() {
    let (server, held) = (HeldPort::take(), HeldPort::take());
    let mut setting = RemoteFixture::at(&server);
    let mut cproxy = setting.own("cproxy", &held.number().to_string());
    let remote = listening(&mut cproxy.program, 1);
    let mut steady = Steady::start(remote);
    setting.sproxy.program.kill();
    assert!(steady.ended().is_some(), "its session is lost");
    setting.sproxy = LoopbackSproxy::at(&setting.site, setting.echo.address, &server);
    assert_eq!(listening(&mut cproxy.program, 2), remote);
    Steady::start(remote).finish();
}

#[test]
fn a_withdrawn_permission_ends_the_listener_and_a_restored_one_restores_it() {
    let mut setting = RemoteFixture::new(&[]);
    let key = setting.site.client.line.clone();
    let port = HeldPort::take();
    let mut cproxy = setting.own("cproxy", &port.number().to_string());
    let address = listening(&mut cproxy.program, 1);
    let steady = Steady::start(address);
    setting.site.admit(&[&format!("permitlisten=\"none\" {key}")]);
    setting.sproxy.program.wait_for("no longer listens on");
    wait("the port to be free", || TcpStream::connect(address).is_err());
    cproxy.program.wait_for("the key may not listen there");
    // Accepted connections continue.
    steady.goes_on();
    steady.finish();
    setting.site.admit(&[&key]);
    assert_eq!(listening(&mut cproxy.program, 2), address);
    Steady::start(address).finish();
}

#[test]
fn a_remote_forward_that_is_wrong_is_a_wrong_usage() {
    for (args, problem) in [
        (&["-R", "8080"][..], "the target is missing"),
        (&["-R", "1:a:2", "-R", "1:b:3"], "-R is given twice for localhost:1"),
    ] {
        let site = LoopbackSite::new();
        let mut command =
            etcp_testkit::loopback::etcp(site.path(), ["cproxy", "--server", "127.0.0.1:1"]);
        command.args(args);
        let (code, line) = RunningProgram::start("wrong", site.path(), command).end();
        assert_eq!(code, Some(2), "{line}");
        assert!(line.contains(problem), "{line}");
    }
}

/// The address on which the server listens, in its namespace.
const REMOTE: &str = "127.0.0.1:7000";

/// Starts a program beside the client, which the server's side reaches by [`REMOTE`].
fn behind_nat() -> (TestWorld, TestFolder, ProxyPair, TcpListener) {
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let target = checked::listen(&world.client, "127.0.0.1:0");
    let address = target.local_addr().expect("it listens").to_string();
    let sproxy = etcp_testkit::Sproxy::start(&world, &folder, IpFamily::V4, "127.0.0.1:9", &[]);
    let forward = format!("{REMOTE}:{address}");
    let mut pair =
        ProxyPair::start_with(&world, &folder, sproxy, |launch| launch.args(["-R", &forward]));
    pair.cproxy.wait_for(LISTENS, PATIENCE);
    (world, folder, pair, target)
}

#[test]
fn a_program_behind_nat_is_reached_across_changes_of_its_address() {
    if !skip::can_run("usage::remote (NAT)", &[]) {
        return;
    }
    let (world, _folder, mut pair, target) = behind_nat();
    let application = checked::connect(&world.server, REMOTE);
    let streams = Streams::start(application, checked::accept(&target), Rate::GENTLE);
    streams.go_on("the start");
    for fault in NetworkFault::CYCLE {
        pair.survive(fault, &world);
        streams.go_on(&format!("{fault:?}"));
    }
    // Others connect meanwhile, through the same listener.
    let mut other = checked::connect(&world.server, REMOTE);
    other.write_all(b"?").expect("sproxy takes it");
    checked::accept(&target).read_exact(&mut [0]).expect("it arrives");
    streams.finish();
    assert_eq!(pair.cproxy.count(LISTENS), 1, "it is one listener all the time");
}

/// [LISTEN-3]
#[test]
fn a_connection_made_while_the_client_is_away_is_carried_after_its_return() {
    if !skip::can_run("usage::remote (away)", &[]) {
        return;
    }
    let (world, _folder, mut pair, target) = behind_nat();
    let before = pair.attached_again();
    world.router.blackhole(Direction::Both);
    pair.sproxy.process.wait_for("carrier lost", PATIENCE);
    let mut waiting: Vec<_> = (0..3).map(|_| checked::connect(&world.server, REMOTE)).collect();
    for stream in &mut waiting {
        stream.write_all(b"waits").expect("sproxy takes it");
    }
    world.use_uplink(world.other_uplink());
    world.router.lift_blackhole();
    pair.wait_attached_again(before);
    for _ in &waiting {
        let mut bytes = [0; 5];
        checked::accept(&target).read_exact(&mut bytes).expect("it arrives");
        assert_eq!(&bytes, b"waits");
    }
}
