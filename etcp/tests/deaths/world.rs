//! Deaths of workers while real programs work and their client moves.

use etcp_testkit::folder::{length, sha256};
use etcp_testkit::ssh_site::SshSite;
use etcp_testkit::sshd::{PORT, ssh_config, start_sshd};
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::{
    IpFamily, Journey, Launch, NetworkFault, ProcessFault, ProxyPair, RunAs, Sproxy, TestFolder,
    TestWorld, skip, tell,
};
use rustix::process::Signal;

#[test]
fn streams_go_on_when_workers_die_while_the_client_moves() {
    if !skip::can_run("deaths::world (moves)", &[]) {
        return;
    }
    let journey = Journey::new();
    for (number, fault) in NetworkFault::CYCLE.into_iter().enumerate() {
        let (client, server) = (&journey.pair.cproxy, &journey.pair.sproxy.process);
        let die = |is_before: bool| {
            let is_client = (number % 2 == 0) == is_before;
            if is_client { client.kill_worker() } else { server.kill_worker() }
        };
        die(true);
        fault.strike(&journey.world);
        die(false);
        let pause = journey.streams.go_on(&format!("{fault:?} and deaths"));
        tell(&format!("{fault:?} between two deaths: the streams paused for {pause:.2?}"));
    }
    journey.finish();
}

#[test]
fn streams_go_on_when_programs_are_replaced_while_the_client_moves() {
    if !skip::can_run("deaths::world (upgrades)", &[]) {
        return;
    }
    let journey = Journey::new();
    let (client, server) = (&journey.pair.cproxy, &journey.pair.sproxy.process);
    for (number, fault) in NetworkFault::CYCLE.into_iter().enumerate() {
        let programs = if number % 2 == 0 { [client, server] } else { [server, client] };
        programs[0].signal(Signal::USR2);
        fault.strike(&journey.world);
        programs[1].signal(Signal::USR2);
        let pause = journey.streams.go_on(&format!("{fault:?} and upgrades"));
        tell(&format!("{fault:?} between two upgrades: the streams paused for {pause:.2?}"));
    }
    for program in [client, server] {
        until("an upgrade", PATIENCE, || program.count("has taken over") > 0);
    }
    journey.finish();
}

#[test]
fn streams_wait_while_the_system_lacks_what_the_next_worker_needs() {
    if !skip::can_run("deaths::world (lack)", &["prlimit", "setpriv"]) {
        return;
    }
    let journey = Journey::new();
    for program in [&journey.pair.cproxy, &journey.pair.sproxy.process] {
        for (what, few, enough, line) in [
            ("nproc", "1", "10000", "cannot start a process that serves, and tries again: "),
            ("nofile", "10", "1000", "could not start: sessions wait for the next attempt"),
        ] {
            program.limit_next_workers(what, few);
            program.kill_worker();
            until(&format!("a lack of {what}"), PATIENCE, || program.count(line) > 0);
            // Each attempt would report the same death.
            until("two attempts", PATIENCE, || what == "nproc" || program.count(line) > 1);
            program.limit_next_workers(what, enough);
            let pause = journey.streams.go_on(what);
            tell(&format!("a lack of {what}: the streams paused for {pause:.2?}"));
        }
        assert_eq!(program.count("the worker died (SIGKILL)"), 2);
    }
    journey.finish();
}

/// The size of a file whose transfer takes some seconds.
const LENGTH: u64 = 24 << 20;

#[test]
fn a_copy_over_ssh_is_whole_when_the_workers_of_both_sides_die() {
    if !skip::can_run("deaths::world (ssh)", &["sshd", "scp", "socat", "sha256sum"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let _sshd = start_sshd(&world.server, &folder);
    let original = folder.random_file("original", LENGTH, RunAs::Nobody);
    let target = format!("127.0.0.1:{PORT}");
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, &target, &[&target]);
    let pair = ProxyPair::start(&world, &folder, sproxy, &[&format!("9000:{target}")]);
    let config = ssh_config(&folder, "config", "test-server", "socat - TCP:127.0.0.1:9000");
    let copy = folder.join("copy");
    // 6 MB/s.
    let mut scp = Launch::new("scp", "scp")
        .args(["-q", "-l", "48000", "-F"])
        .arg(config)
        .arg(&original)
        .arg(format!("server:{}", copy.display()))
        .env("HOME", folder.path())
        .start(&world.client, &folder);
    let processes = [&pair.cproxy, &pair.sproxy.process];
    for (part, dying) in (1..).zip([&processes[..1], &processes[1..], &processes]) {
        until("the copy to grow", PATIENCE, || length(&copy) > part * LENGTH / 5);
        dying.iter().for_each(|process| process.kill_worker());
    }
    assert!(scp.wait(PATIENCE).success(), "scp is content: {}", scp.log());
    assert_eq!(sha256(&copy), sha256(&original), "every byte is right");
}

#[test]
fn an_interactive_ssh_session_survives_every_death_and_upgrade() {
    if !skip::can_run("deaths::world (interactive ssh)", &["sshd", "ssh", "socat"]) {
        return;
    }
    let site = SshSite::without_etcp(PORT);
    let target = format!("127.0.0.1:{PORT}");
    let sproxy = Sproxy::start(&site.world, &site.folder, IpFamily::V4, &target, &[&target]);
    let forward = format!("9000:{target}");
    let mut pair = ProxyPair::start(&site.world, &site.folder, sproxy, &[&forward]);
    let launch =
        site.client(Launch::new("ssh", "ssh")).arg("-F").arg(site.folder.join("ssh_config"));
    let through = ["-o", "ProxyCommand=socat - TCP:127.0.0.1:9000", "-tt", "server"];
    let mut shell = site.shell(launch.args(through));
    for fault in ProcessFault::ALL {
        // The next line is typed while no worker serves, or when one has just begun to.
        fault.strike(&mut pair, &site.world);
        shell.answer(PATIENCE);
    }
    shell.end();
}
