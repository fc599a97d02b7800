//! A telnet login through cproxy's default forward survives the client's moves, and its interrupt
//! (urgent data) still reaches the running program.

use etcp_testkit::pair::DEFAULT_LISTEN;
use etcp_testkit::terminal::Terminal;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{
    IpFamily, Launch, NetworkFault, Process, ProxyPair, RunAs, Sproxy, TestFolder, TestWorld, skip,
};

const PROMPT: &str = "ready> ";

/// Replaces login(1), which requires an account with a password: asks for a name, gives a shell.
const LOGIN: &str = "#!/bin/sh
printf 'login: '
read -r name
echo \"Welcome, $name.\"
PS1='ready> ' exec setpriv --reuid=65534 --regid=65534 --clear-groups /bin/sh -i
";

/// Counts segments with urgent data on the way to cproxy.
const COUNT_URGENT: &str = "
table inet urgent {
  chain sent {
    type filter hook output priority filter;
    tcp dport 5200 tcp flags & urg == urg counter
  }
}";

#[test]
fn a_telnet_login_stays_while_the_client_moves() {
    if !skip::can_run("netns::telnet", &["telnet", "telnetd", "socat"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    world.client.nft(COUNT_URGENT);
    let _telnetd = start_telnetd(&world, &folder);
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, "127.0.0.1:23", &[]);
    let mut pair = ProxyPair::start(&world, &folder, sproxy, &[]);

    let (host, port) = DEFAULT_LISTEN.split_once(':').expect("host and port");
    let telnet = Launch::new("telnet", "telnet").args([host, port]).env("TERM", "dumb");
    let mut telnet = Terminal::start(telnet, &world.client, &folder);
    telnet.expect("login: ", PATIENCE);
    telnet.line("traveller");
    telnet.expect("Welcome, traveller.", PATIENCE);
    telnet.expect(PROMPT, PATIENCE);
    ask(&mut telnet, 1);
    interrupt(&world, &mut telnet, || ());

    for (n, fault) in (2..).zip(NetworkFault::CYCLE) {
        pair.survive(fault, &world);
        ask(&mut telnet, n);
    }
    // The test is repeated with the interrupt pressed while there is no path.
    let before = pair.attached_again();
    interrupt(&world, &mut telnet, || NetworkFault::Forget.strike(&world));
    pair.wait_attached_again(before);
    ask(&mut telnet, 10);

    telnet.line("exit");
    let end = telnet.process().wait(PATIENCE);
    assert!(end.code().is_some(), "telnet ends by itself, as its session did: {end}");
}

/// Makes the shell compute something, so that its answer differs from the echo of the typed text.
fn ask(telnet: &mut Terminal, n: u32) {
    telnet.line(&format!("echo answer-$(({n} * 1001))."));
    telnet.expect(&format!("answer-{}.", n * 1001), PATIENCE);
    telnet.expect(PROMPT, PATIENCE);
}

/// Interrupts a long command, after calling `before` while it runs.
fn interrupt(world: &TestWorld, telnet: &mut Terminal, before: impl FnOnce()) {
    const ESCAPE: &str = "\x1d";
    telnet.line("echo running-$((40 + 2)).; sleep 1000");
    telnet.expect("running-42.", PATIENCE);
    before();
    let urgent = urgent_segments(world);
    telnet.send(ESCAPE);
    telnet.expect("telnet> ", PATIENCE);
    telnet.line("send ip synch");
    // The shell returns long before the 1000 seconds are over.
    telnet.expect(PROMPT, PATIENCE);
    assert!(urgent_segments(world) > urgent, "the interrupt went as urgent data");
    // If the urgent byte had been lost or duplicated, the shell would not understand this.
    ask(telnet, 7);
}

fn urgent_segments(world: &TestWorld) -> u64 {
    let output = world.client.command("nft").args(["list", "table", "inet", "urgent"]).output();
    let text = String::from_utf8(output.expect("nft runs").stdout).expect("nft prints text");
    let packets = text.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next());
    packets.and_then(|packets| packets.parse().ok()).expect("the counter is listed")
}

/// Starts telnetd, which requires a socket as its stdin, as inetd provides it.
fn start_telnetd(world: &TestWorld, folder: &TestFolder) -> Process {
    let login = folder.script("login", LOGIN);
    let telnetd = skip::find("telnetd").expect("was asked for");
    let mut process = Launch::new("telnetd", "socat")
        .args(["-d", "-d", "TCP-LISTEN:23,bind=127.0.0.1,reuseaddr,fork"])
        .arg(format!("EXEC:{} -h -E {},nofork", telnetd.display(), login.display()))
        // It makes a terminal and a login record.
        .user(RunAs::Root)
        .start(&world.server, folder);
    process.wait_for("listening on", PATIENCE);
    process
}
