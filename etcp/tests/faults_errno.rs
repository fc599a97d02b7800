//! Errors of a carrier's socket, as the kernel really makes them: each means "connect again", and
//! none is the end of a session.

mod support;

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use rustix::io::Errno;
use support::wait::PATIENCE;
use support::{Journey, World, skip, tell};

/// What a router answers, and what the client's socket makes of it.
const ANSWERS: [(&str, Errno); 7] = [
    ("icmp type host-unreachable", Errno::HOSTUNREACH),
    ("icmp type net-unreachable", Errno::NETUNREACH),
    ("icmp type port-unreachable", Errno::CONNREFUSED),
    ("icmp type prot-unreachable", Errno::NOPROTOOPT),
    ("icmp type admin-prohibited", Errno::HOSTUNREACH),
    ("icmp type net-prohibited", Errno::NETUNREACH),
    ("icmp type host-prohibited", Errno::HOSTUNREACH),
];

/// Routes of the client's own that lead nowhere, and what its socket makes of them.
const ROUTES: [(&str, Errno); 4] = [
    ("unreachable", Errno::HOSTUNREACH),
    ("prohibit", Errno::ACCESS),
    ("blackhole", Errno::INVAL),
    ("throw", Errno::NETUNREACH),
];

/// As cproxy's log shows it.
fn shown(errno: Errno) -> String {
    format!("(os error {})", errno.raw_os_error())
}

/// A journey whose cproxy logs each try.
fn talkative() -> Journey {
    Journey::through(World::new(), |launch| launch.env("RUST_LOG", "info,eternaltcp::client=debug"))
}

/// Strikes, waits until cproxy has logged a line with both words, and mends it.
#[track_caller]
fn provoke(
    journey: &mut Journey,
    line: &str,
    errno: Errno,
    strike: impl FnOnce(&Journey),
    mend: impl FnOnce(&Journey),
) {
    let is_wanted = |text: &str| text.contains(line) && text.contains(&shown(errno));
    let count = |journey: &Journey| {
        journey.pair.cproxy.log().lines().filter(|text| is_wanted(text)).count()
    };
    let (before, attached) = (count(journey), journey.pair.attached_again());
    strike(journey);
    let what = format!("{line:?} with {errno:?}");
    support::wait::until(&what, PATIENCE, || count(journey) > before);
    mend(journey);
    journey.pair.wait_attached_again(attached);
    journey.streams.go_on(&what);
}

/// Routes to the server for every packet, whatever its source.
fn route(world: &World, kind: &str) {
    let server = world.server_v4();
    let lines = match kind {
        // A table whose search ends without a route.
        "throw" => ["rule add priority 5 unreachable", ""].map(str::to_owned),
        _ => [
            format!("route add {kind} {server} table 99"),
            format!("rule add priority 5 to {server} lookup 99"),
        ],
    };
    world.client.ip("-4", &lines.each_ref().map(String::as_str));
}
