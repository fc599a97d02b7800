//! Errors of a carrier's socket, as the kernel really makes them: each means "connect again", and
//! none ends a session.

use rustix::io::Errno;
use std::time::{Duration, Instant};

use etcp_testkit::checked::Rate;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::{Direction, Journey, Launch, TestFolder, TestWorld, skip};

/// Answers of a device on the path; the resulting error of a carrier's socket, and of a new
/// connection.
const ANSWERS: [(&str, Errno, Errno); 8] = [
    ("tcp reset", Errno::CONNRESET, Errno::CONNREFUSED),
    ("icmp type host-unreachable", Errno::HOSTUNREACH, Errno::HOSTUNREACH),
    ("icmp type net-unreachable", Errno::NETUNREACH, Errno::NETUNREACH),
    ("icmp type port-unreachable", Errno::CONNREFUSED, Errno::CONNREFUSED),
    ("icmp type prot-unreachable", Errno::NOPROTOOPT, Errno::NOPROTOOPT),
    ("icmp type admin-prohibited", Errno::HOSTUNREACH, Errno::HOSTUNREACH),
    ("icmp type net-prohibited", Errno::NETUNREACH, Errno::NETUNREACH),
    ("icmp type host-prohibited", Errno::HOSTUNREACH, Errno::HOSTUNREACH),
];

/// Routes of the client that lead nowhere, and the resulting errors of its sockets.
const ROUTES: [(&str, Errno); 4] = [
    ("unreachable", Errno::HOSTUNREACH),
    ("prohibit", Errno::ACCESS),
    ("blackhole", Errno::INVAL),
    ("none", Errno::NETUNREACH),
];

/// Starts a journey whose cproxy logs each attempt, and whose kernels close a carrier before the
/// proxies do, so that they see the kernel's error.
fn hasty() -> Journey {
    let debug = "info,eternaltcp::client=debug";
    // The settings are slow, so that the applications' own connections are not affected: with quick
    // settings, the kernel would also end connections that a full proxy does not read.
    let journey = Journey::at(Rate::SLOW, TestWorld::new(), |launch| launch.env("RUST_LOG", debug));
    for namespace in [&journey.world.client, &journey.world.server] {
        namespace.sysctl("ipv4/tcp_retries2", "1");
        namespace.sysctl("ipv4/tcp_syn_retries", "1");
    }
    journey
}

const ON_A_CARRIER: &str = "carrier lost";
const ON_CONNECTING: &str = "cannot connect";

/// The number of times that errors are caused: on a busy machine, the device on the path may answer
/// only after the kernel has given up the carrier.
const ROUNDS: usize = 5;

/// Waits until a program logs a line with this error of the system. Returns false if the first
/// carrier that it loses ends with another error.
#[track_caller]
fn sees(log: impl Fn() -> String, line: &str, errno: Errno) -> bool {
    let shown = format!("(os error {})", errno.raw_os_error());
    let mut is_seen = false;
    until(&format!("{line:?} with {errno:?}"), PATIENCE, || {
        let log = log();
        let mut lines = log.lines().filter(|text| text.contains(line));
        let found = match line {
            ON_A_CARRIER => lines.next(),
            _ => lines.find(|text| text.contains(&shown)),
        };
        is_seen = found.is_some_and(|text| text.contains(&shown));
        found.is_some()
    });
    is_seen
}

/// Causes the errors, waits until cproxy has seen each expected error, mends, and waits until the
/// tunnel is attached again.
#[track_caller]
fn provoke(
    journey: &mut Journey,
    what: &str,
    errors: &[(&str, Errno)],
    strike: impl Fn(&Journey),
    mend: impl Fn(&Journey),
) {
    let mut round = || {
        let (old, mut are_seen) = (journey.pair.cproxy.log().len(), false);
        journey.survive(what, |journey| {
            strike(journey);
            let log = || journey.pair.cproxy.log().split_off(old);
            are_seen = errors.iter().all(|(line, errno)| sees(log, line, *errno));
            mend(journey);
        });
        are_seen
    };
    assert!((0..ROUNDS).any(|_| round()), "other errors in each of {ROUNDS} rounds: {what}");
}

#[test]
fn every_answer_on_the_way_means_connect_again() {
    if !skip::can_run("faults::errno (answers)", &[]) {
        return;
    }
    let mut journey = hasty();
    for (answer, on_carrier, on_connecting) in ANSWERS {
        provoke(
            &mut journey,
            answer,
            &[(ON_A_CARRIER, on_carrier), (ON_CONNECTING, on_connecting)],
            |journey| journey.world.router.reject(Direction::ToServer, answer),
            |journey| journey.world.router.lift_blackhole(),
        );
    }
    journey.finish();
}

#[test]
fn every_route_that_leads_nowhere_means_connect_again() {
    if !skip::can_run("faults::errno (routes)", &[]) {
        return;
    }
    let mut journey = hasty();
    let server = journey.world.server_v4();
    for (kind, errno) in ROUTES {
        let rule = match kind {
            "none" => "unreachable".to_owned(),
            _ => {
                journey.world.client.ip("-4", &[&format!("route add {kind} {server} table 99")]);
                "lookup 99".to_owned()
            }
        };
        let rule = format!("priority 5 to {server} {rule}");
        provoke(
            &mut journey,
            &format!("a route to the server of the kind {kind}"),
            &[(ON_CONNECTING, errno)],
            |journey| journey.world.client.ip("-4", &[&format!("rule add {rule}")]),
            |journey| journey.world.client.ip("-4", &[&format!("rule del {rule}")]),
        );
        if kind != "none" {
            journey.world.client.ip("-4", &[&format!("route del {kind} {server} table 99")]);
        }
    }
    journey.finish();
}

#[test]
fn a_carrier_and_a_connection_that_time_out_mean_connect_again() {
    if !skip::can_run("faults::errno (time-outs)", &[]) {
        return;
    }
    let mut journey = hasty();
    provoke(
        &mut journey,
        "the kernel's own time-outs",
        &[(ON_A_CARRIER, Errno::TIMEDOUT), (ON_CONNECTING, Errno::TIMEDOUT)],
        |journey| journey.world.router.blackhole(Direction::Both),
        |journey| journey.world.router.lift_blackhole(),
    );
    journey.finish();
}

#[test]
fn a_client_without_a_free_port_or_descriptor_connects_again_when_there_is_one() {
    if !skip::can_run("faults::errno (ports and descriptors)", &[]) {
        return;
    }
    let mut journey = hasty();
    // One port, which another program uses.
    let ports = "/proc/sys/net/ipv4/ip_local_port_range";
    let before = journey.world.client.run(|| std::fs::read_to_string(ports)).expect("it is read");
    let taken = etcp_testkit::checked::listen(&journey.world.client, "0.0.0.0:50000");
    provoke(
        &mut journey,
        "no free port",
        &[(ON_CONNECTING, Errno::ADDRNOTAVAIL)],
        |journey| {
            journey.world.client.sysctl("ipv4/ip_local_port_range", "50000 50000");
            journey.world.router.reset_carriers();
        },
        |journey| journey.world.client.sysctl("ipv4/ip_local_port_range", &before),
    );
    drop(taken);

    provoke(
        &mut journey,
        "no free descriptor",
        &[(ON_CONNECTING, Errno::MFILE)],
        |journey| {
            journey.pair.cproxy.limit_descriptors("3");
            journey.world.router.reset_carriers();
        },
        |journey| journey.pair.cproxy.limit_descriptors("1024"),
    );
    journey.finish();
}

/// tokio ends a thread for blocking calls after ten idle seconds, unless it is kept.
const THREADS_IDLE: Duration = Duration::from_secs(12);

#[test]
fn proxies_whose_user_has_no_thread_left_attach_again_with_the_threads_they_have() {
    if !skip::can_run("faults::errno (threads)", &["prlimit"]) {
        return;
    }
    let mut journey = hasty();
    let started = Instant::now();
    until("threads to end that are not kept", 2 * THREADS_IDLE, || {
        journey.pair.cproxy.threads() == 1 || started.elapsed() >= THREADS_IDLE
    });
    journey.pair.cproxy.limit_threads("1");
    journey.pair.sproxy.process.limit_threads("1");
    for what in ["no thread to be had", "no thread to be had, for the second time"] {
        journey.survive(what, |journey| {
            journey.world.router.reset_carriers();
        });
    }
    journey.finish();
}

#[test]
fn a_program_that_starts_without_a_thread_to_be_had_says_so() {
    if !skip::can_run("faults::errno (threads at the start)", &["prlimit"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let program = folder.program("etcp", &etcp_testkit::pair::etcp());
    let program = program.to_str().expect("test paths are text");
    let key = folder.join("key");
    let key = key.to_str().expect("test paths are text");
    let keygen = ["keygen", "-q", "-N", "", "-f", key];
    let mut keygen = Launch::new("keygen", program).args(keygen).start(&world.client, &folder);
    assert!(keygen.wait(PATIENCE).success(), "{}", keygen.log());
    for (mode, args) in [
        ("sproxy", &["--listen", "127.0.0.1:0", "--identity", key][..]),
        ("cproxy", &["--server", "127.0.0.1", "--no-ssh-config", "--identity", key]),
        ("connect", &["--server", "127.0.0.1", "--no-ssh-config", "--identity", key]),
    ] {
        let launch = Launch::new(mode, program).arg(mode).args(args).env("HOME", folder.path());
        let launch = launch.run_by(["prlimit", "--nproc=1:1"]);
        let mut process = launch.start(&world.client, &folder);
        assert_eq!(process.wait(PATIENCE).code(), Some(1), "{mode}: {}", process.log());
        assert_eq!(process.count("etcp: cannot start a thread"), 1, "{mode}: {}", process.log());
    }
}

#[test]
fn a_program_that_starts_without_a_descriptor_to_be_had_says_so() {
    if !skip::can_run("faults::errno (descriptors at the start)", &["prlimit"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let program = folder.program("etcp", &etcp_testkit::pair::etcp());
    let key = etcp_testkit::keys::generate(&folder, "key");
    for most in 5..20 {
        let mut process = Launch::new("connect", &program)
            .args(["connect", "--server", "127.0.0.1", "--no-ssh-config", "--identity"])
            .arg(&key)
            .args(["--known-hosts", "/dev/null", "--connect-timeout", "100ms"])
            .env("HOME", folder.path())
            .run_by(["prlimit", &format!("--nofile={most}:{most}")])
            .start(&world.client, &folder);
        let code = process.wait(PATIENCE).code();
        let log = process.log();
        assert!(code == Some(1) && !log.contains("panicked"), "{most}: {code:?} {log}");
        assert!(log.lines().any(|line| line.starts_with("etcp: ")), "{most}: {log}");
    }
}

#[test]
fn an_error_of_the_servers_socket_detaches_the_tunnel_and_ends_no_session() {
    if !skip::can_run("faults::errno (server)", &[]) {
        return;
    }
    let mut journey = hasty();
    for (answer, errno, _) in ANSWERS {
        let mut round = || {
            let (old, mut is_seen) = (journey.pair.sproxy.log().len(), false);
            journey.survive(&format!("{answer}, to the server"), |journey| {
                journey.world.router.reject(Direction::ToClient, answer);
                let log = || journey.pair.sproxy.log().split_off(old);
                is_seen = sees(log, ON_A_CARRIER, errno);
                journey.world.router.lift_blackhole();
            });
            is_seen
        };
        assert!((0..ROUNDS).any(|_| round()), "another error in each of {ROUNDS} rounds: {answer}");
    }
    journey.finish();
}
