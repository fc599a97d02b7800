//! `etcp cproxy --transparent`: connections that nftables redirects, or TPROXY, of this machine's
//! own programs and of others behind it, IPv4 and IPv6, while the client moves.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use etcp_testkit::checked::{accept, connect, listen};
use etcp_testkit::folder::{length, sha256};
use etcp_testkit::loopback::carriers_taken;
use etcp_testkit::netns::Namespace;
use etcp_testkit::nginx::start_nginx;
use etcp_testkit::transfer::strike_on_the_way_of;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{
    IpFamily, Launch, NetworkFault, Process, ProcessFault, ProxyPair, RunAs, Sproxy, TestFolder,
    TestWorld, skip,
};

/// Addresses that only the server has: only the tunnel leads there.
const TARGETS: [&str; 2] = ["192.0.2.80", "2001:db8::80"];

/// The recipes of docs/guide.md.
#[derive(Clone, Copy)]
enum Recipe {
    /// The rules for the client's own programs, by redirect.
    Own,
    /// The rules for machines behind the client, by TPROXY.
    Tproxy,
}

impl Recipe {
    /// Runs the recipe as printed.
    #[track_caller]
    fn follow(self, namespace: &Namespace) {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md");
        let text = std::fs::read_to_string(docs).expect("the document is there");
        let (_, section) = text
            .split_once("\n## Forward connections without configuring programs\n")
            .expect("it has this");
        let script = section.split("```sh\n").nth(1 + self as usize).expect("a recipe");
        let (script, _) = script.split_once("```").expect("it ends");
        let output = namespace.command("sh").args(["-e", "-c", script]).output();
        let output = output.expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The rules for machines behind the client, by redirect.
const REDIRECT_FORWARDED: &str = "flush ruleset
table inet etcp {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname lan meta l4proto tcp redirect to :1234
  }
}
";

/// The size of each file.
const LENGTH: u64 = 24 * 1024 * 1024;

/// Starts both proxies, cproxy with `--transparent`, and adds the server's addresses.
fn start(world: &TestWorld, folder: &TestFolder, user: RunAs) -> ProxyPair {
    world.server.ip("-4", &[&format!("addr add {}/32 dev lo", TARGETS[0])]);
    world.server.ip("-6", &[&format!("addr add {}/128 dev lo", TARGETS[1])]);
    let permits = ["192.0.2.0/24:*", "[2001:db8::/32]:*", "10.71.9.10:*"];
    let sproxy = Sproxy::start(world, folder, IpFamily::V4, "127.0.0.1:9", &permits);
    ProxyPair::start_with(world, folder, sproxy, |launch| {
        launch.args(["--transparent", "[::]:1234"]).user(user)
    })
}

/// Starts a curl of the big file in `namespace`; returns its output file too.
fn curl(namespace: &Namespace, folder: &TestFolder, name: &str, url: &str) -> (PathBuf, Process) {
    let copy = folder.join(name);
    let curl = Launch::new(&format!("curl-{name}"), "curl")
        .args(["-sS", "--fail", "--no-buffer", "-o"])
        .arg(&copy)
        .arg(url)
        .start(namespace, folder);
    (copy, curl)
}

/// Fetches the file over both families at once, while the client moves.
fn fetch(world: &TestWorld, namespace: &Namespace, folder: &TestFolder) {
    let original = folder.random_file("original", LENGTH, RunAs::Nobody);
    let ways = [("v4", "192.0.2.80"), ("v6", "[2001:db8::80]")];
    let mut curls = ways
        .map(|(name, host)| curl(namespace, folder, name, &format!("http://{host}:8080/original")));
    // nginx catches up after a pause, but never exceeds its mean rate.
    let faults = [NetworkFault::BlackholeThenMove, NetworkFault::ResetAndMove, NetworkFault::Move];
    strike_on_the_way_of(2 * LENGTH, world, &faults, || {
        let is_running = curls.iter_mut().any(|(_, curl)| curl.is_running());
        (is_running, curls.iter().map(|(copy, _)| length(copy)).sum())
    });
    for (copy, curl) in &mut curls {
        assert!(curl.wait(2 * PATIENCE).success(), "curl is content");
        assert_eq!(sha256(copy), sha256(&original), "every byte is right");
        std::fs::remove_file(copy).expect("it is there");
    }
}

/// Starts nginx, which sends each file at 1 MB/s.
fn start_web(world: &TestWorld, folder: &TestFolder) -> Process {
    let [v4, v6] = TARGETS;
    let lines = format!("listen {v4}:8080; listen [{v6}]:8080; limit_rate 1m;");
    start_nginx(&world.server, folder, &lines, &format!("{v4}:8080"))
}

#[test]
fn own_programs_that_are_redirected_go_on_while_the_client_moves() {
    if !skip::can_run("netns::transparent", &["nginx", "curl", "sha256sum"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let mut pair = start(&world, &folder, RunAs::Nobody);
    pair.cproxy.wait_for("without CAP_NET_ADMIN: TPROXY does not work, redirect does", PATIENCE);
    let _nginx = start_web(&world, &folder);
    Recipe::Own.follow(&world.client);
    fetch(&world, &world.client, &folder);
}

#[test]
fn machines_behind_the_client_go_on_by_tproxy_and_by_redirect_while_it_moves() {
    if !skip::can_run("netns::transparent", &["nginx", "curl", "sha256sum"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let mut pair = start(&world, &folder, RunAs::Root);
    assert_eq!(pair.cproxy.count("CAP_NET_ADMIN"), 0, "root has it");
    let _nginx = start_web(&world, &folder);
    let guest = attach_guest(&world);
    Recipe::Tproxy.follow(&world.client);
    fetch(&world, &guest, &folder);
    world.client.nft(REDIRECT_FORWARDED);
    fetch(&world, &guest, &folder);
    assert!(pair.cproxy.is_running());
}

/// Adds a machine whose router is the client.
fn attach_guest(world: &TestWorld) -> Namespace {
    let guest = Namespace::create(world.client.name().replace("client", "guest"));
    let link = format!("link add lan type veth peer name eth0 netns {}", guest.name());
    world.client.ip("-4", &[&link, "link set lan up", "addr add 10.71.50.1/24 dev lan"]);
    world.client.ip("-6", &["addr add fd71:50::1/64 dev lan"]);
    guest.ip("-4", &["link set eth0 up", "addr add 10.71.50.2/24 dev eth0"]);
    guest.ip("-4", &["route add default via 10.71.50.1"]);
    guest.ip("-6", &["addr add fd71:50::2/64 dev eth0", "route add default via fd71:50::1"]);
    guest
}

#[test]
fn half_close_and_reset_pass_through_a_redirected_connection() {
    if !skip::can_run("netns::transparent", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let _pair = start(&world, &folder, RunAs::Nobody);
    Recipe::Own.follow(&world.client);
    for target in ["192.0.2.80:7000", "[2001:db8::80]:7000"] {
        let listener = listen(&world.server, target);
        let (mut application, mut server) = (connect(&world.client, target), accept(&listener));
        application.write_all(b"question").expect("it is taken");
        application.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(read_all(&mut server), "question");
        server.write_all(b"answer").expect("it is taken");
        drop(server);
        assert_eq!(read_all(&mut application), "answer");

        for is_application in [true, false] {
            let (mut application, mut server) = (connect(&world.client, target), accept(&listener));
            // A byte has passed: both proxies have their ends.
            application.write_all(b"!").expect("it is taken");
            server.read_exact(&mut [0; 1]).expect("it arrives");
            let (from, mut to) =
                if is_application { (application, server) } else { (server, application) };
            set_socket_linger(&from, Some(Duration::ZERO)).expect("it is TCP");
            drop(from);
            let read = to.read(&mut [0; 1]);
            let kind = read.as_ref().err().map(std::io::Error::kind);
            assert_eq!(
                kind,
                Some(ErrorKind::ConnectionReset),
                "{target} {is_application} {read:?}"
            );
        }
    }
}

#[test]
fn redirected_connections_go_on_when_workers_die() {
    if !skip::can_run("netns::transparent (deaths)", &[]) {
        return;
    }
    for (recipe, user) in [(Recipe::Own, RunAs::Nobody), (Recipe::Tproxy, RunAs::Root)] {
        let (world, folder) = (TestWorld::new(), TestFolder::new());
        let mut pair = start(&world, &folder, user);
        let guest = matches!(recipe, Recipe::Tproxy).then(|| attach_guest(&world));
        recipe.follow(&world.client);
        let from = guest.as_ref().unwrap_or(&world.client);
        for target in ["192.0.2.80:7000", "[2001:db8::80]:7000"] {
            let listener = listen(&world.server, target);
            let mut all = vec![(connect(from, target), accept(&listener))];
            for fault in
                [ProcessFault::KillClient, ProcessFault::KillServer, ProcessFault::KillBoth]
            {
                fault.strike(&mut pair, &world);
                let mut next = connect(from, target);
                next.write_all(b"?").expect("the kernel takes it");
                // A target may see a connection that ends without a byte.
                let server = std::iter::repeat_with(|| accept(&listener))
                    .find_map(|mut server| server.read_exact(&mut [0]).is_ok().then_some(server));
                all.push((next, server.expect("there is always another one")));
                for (application, server) in &mut all {
                    application.write_all(b"question").expect("it is taken");
                    server.read_exact(&mut [0; 8]).expect("it arrives");
                    server.write_all(b"answer").expect("it is taken");
                    application.read_exact(&mut [0; 6]).expect("it arrives");
                }
            }
        }
    }
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it ends in order");
    text
}

fn is_reset(stream: &mut TcpStream) -> bool {
    let error = stream.read(&mut [0; 1]).err();
    error.is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn connections_to_the_listener_itself_and_denied_ones_are_reset_with_one_line() {
    if !skip::can_run("netns::transparent", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let mut pair = start(&world, &folder, RunAs::Nobody);
    for listener in ["127.0.0.1:1234", "[::1]:1234", "10.71.1.2:1234"] {
        assert!(is_reset(&mut connect(&world.client, listener)), "{listener}");
    }
    let line = "is refused: it was not redirected, but connected to [::]:1234 itself";
    pair.cproxy.wait_for_count(line, 3, PATIENCE);

    world.client.nft(&redirect_ports("1234, 7000"));
    // The connection is refused even if connection tracking has an entry for it.
    assert!(is_reset(&mut connect(&world.client, "127.0.0.1:1234")));
    pair.cproxy.wait_for_count(line, 4, PATIENCE);
    assert!(is_reset(&mut connect(&world.client, "198.51.100.1:7000")));
    pair.cproxy.wait_for("the target is not permitted: 198.51.100.1:7000", PATIENCE);
    assert!(is_reset(&mut connect(&world.client, "10.71.9.10:7000")));
    pair.cproxy.wait_for("the target refused the connection: 10.71.9.10:7000", PATIENCE);
    assert_eq!(pair.cproxy.count(line), 4, "one line each: {}", pair.cproxy.log());
    assert_eq!(carriers_taken(&pair.cproxy.log()), 0, "the tunnel is not touched");

    // A rule that catches cproxy's own connections: it reports that, and continues without the
    // rule.
    world.client.nft(&format!("flush ruleset\n{}", redirect_ports("6200")));
    world.router.reset_carriers();
    let line = "is refused: its destination 10.71.9.10:6200 is the server itself";
    pair.cproxy.wait_for(line, PATIENCE);
    world.client.nft("flush ruleset");
    pair.wait_attached_again(0);
}

/// Returns rules that redirect connections to these ports, wherever they go.
fn redirect_ports(ports: &str) -> String {
    format!(
        "table inet etcp {{
  chain output {{
    type nat hook output priority -100; policy accept;
    tcp dport {{ {ports} }} redirect to :1234
  }}
}}
"
    )
}
