//! Deaths and upgrades of a cproxy with several servers.

use std::net::SocketAddr;

use etcp_testkit::loopback::several::table;
use etcp_testkit::loopback::{SeveralServers, Steady};

use super::{kill_worker, next_worker};

/// Returns where the server itself listens for a client.
fn remote(all: &SeveralServers, server: &str) -> SocketAddr {
    let line = all.wait_for(server, "the server listens on ", 1);
    let address = line.split("listens on ").nth(1).and_then(|rest| rest.split(' ').next());
    address.and_then(|address| address.parse().ok()).expect("an address")
}

#[test]
fn sessions_of_all_servers_outlive_workers_and_upgrades() {
    let all = SeveralServers::new("");
    let steady: Vec<_> =
        ["one", "two"].map(|name| Steady::start(all.listening(name, 1))).into_iter().collect();
    let worker = kill_worker(&all.cproxy);
    next_worker(&all.cproxy, worker);
    steady.iter().for_each(Steady::goes_on);
    // A reload adds a server, which also has a listener at its server.
    let forward = format!("remote-forward = '127.0.0.1:0:{}'\n", all.echo.address);
    let tables = all.both() + &table("three", all.two.address, &forward);
    let said = all.reload(&tables);
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut steady = steady;
    steady.push(Steady::start(all.listening("three", 1)));
    steady.push(Steady::start(remote(&all, "three")));
    for _ in 0..3 {
        let worker = kill_worker(&all.cproxy);
        next_worker(&all.cproxy, worker);
        steady.iter().for_each(Steady::goes_on);
    }
    let said = all.operate(&["upgrade"]);
    assert_eq!(said.code, Some(0), "{said:?} {}", all.cproxy.log());
    steady.iter().for_each(Steady::goes_on);
    let worker = kill_worker(&all.cproxy);
    next_worker(&all.cproxy, worker);
    steady.iter().for_each(Steady::goes_on);
    Steady::start(remote(&all, "three")).finish();
    for name in ["one", "two", "three"] {
        Steady::start(all.listening(name, 1)).finish();
    }
    // Each tunnel is still the first one of its server.
    assert_eq!(all.one.program.count("tunnel made"), 1, "{}", all.one.program.log());
    assert_eq!(all.two.program.count("tunnel made"), 2, "{}", all.two.program.log());
    steady.into_iter().for_each(Steady::finish);
}
