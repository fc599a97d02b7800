//! `etcp ssh` where only the port of ssh can be reached: it says so at once, and carriers go through
//! ssh itself, each a process that is replaced when its path dies.

use std::time::{Duration, Instant};

use etcp_testkit::keys::{generate, public_half};
use etcp_testkit::ssh_site::{PROGRAMS, SshSite};
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{Launch, NetworkFault, RunAs, skip, tell};

/// Carriers are connections to sshd: it listens where the faults of the tests strike.
const PORT: u16 = CARRIER_PORT;

const ONLY_SSH: &str = "only the port of ssh can be reached at server";

/// A typed line and its echo took longer than this only if the carrier was not replaced after an
/// event or a doubt.
const NOT_STUCK: Duration = Duration::from_secs(40);

fn close_all_ports_but_ssh(site: &SshSite, verdict: &str) {
    site.world.server.nft(&format!(
        "table inet firewall {{
  chain received {{
    type filter hook input priority filter; policy accept;
    iifname \"wan\" tcp dport != {PORT} ct state new {verdict}
  }}
}}"
    ));
}

#[test]
fn a_port_behind_a_firewall_that_drops_is_reported_and_carriers_go_through_ssh() {
    behind_a_firewall("drop");
}

#[test]
fn a_port_behind_a_firewall_that_rejects_is_reported_and_carriers_go_through_ssh() {
    behind_a_firewall("reject with tcp reset");
}

fn behind_a_firewall(verdict: &str) {
    if !skip::can_run("netns::via_ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    close_all_ports_but_ssh(&site, verdict);
    let ran = site.run("fallback", &[], "echo hello");
    ran.wrote("hello\n");
    assert!(ran.log.contains(ONLY_SSH) && ran.log.contains("--remote-port"), "{}", ran.log);
    let ran = site.run("refused", &["--no-via-ssh"], "echo hello");
    ran.failed(1, ONLY_SSH);
    assert!(ran.log.contains("give --via-ssh"), "{}", ran.log);
    let ran = site.run("asked", &["--via-ssh"], "echo hello; exit 0");
    ran.wrote("hello\n");
    assert!(!ran.log.contains(ONLY_SSH), "it was asked for: {}", ran.log);
    site.assert_tidy();
}

#[test]
fn a_client_goes_through_the_proxy_jump_of_its_server() {
    if !skip::can_run("netns::via_ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    let key = generate(&site.folder, "sproxy-key");
    let keys = site.folder.join("ssh-authorized-keys");
    // The address can be reached only from its own machine.
    let sproxy = Launch::new("sproxy", site.program())
        .args(["sproxy", "--listen", "127.0.0.1:6300", "--control", "none", "--strict-modes", "no"])
        .args(["--target", &format!("127.0.0.1:{PORT}"), "--identity"])
        .arg(&key)
        .arg("--authorized-keys")
        .arg(keys)
        .env("HOME", site.folder.path());
    let mut sproxy = sproxy.start(&site.world.server, &site.folder);
    sproxy.wait_for("listening on", PATIENCE);
    site.configure("Host inner\nHostName 127.0.0.1\nProxyJump server\n");
    let known = format!("[test-server]:6300 {}", public_half(&key));
    let known = site.folder.file("sproxy-known-hosts", &known, RunAs::Nobody);
    let connect = |name: &str, more: &[&str]| {
        let launch =
            Launch::new(name, site.program()).args(["connect", "--server", "inner:6300", "-F"]);
        let launch = launch.arg(site.folder.join("ssh_config")).arg("--known-hosts").arg(&known);
        site.finish(name, site.client(launch.args(more)))
    };
    let ran = connect("jumped", &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    assert!(ran.output.starts_with("SSH-2.0-"), "{ran:?}");
    let direct = connect("direct", &["--proxy", "none", "--connect-timeout", "2s"]);
    assert_eq!(direct.code, Some(1), "{}", direct.log);
}

#[test]
fn a_carrier_through_ssh_shows_no_key_to_another_server_than_the_log_in_has_named() {
    if !skip::can_run("netns::via_ssh (another server)", &PROGRAMS) {
        return;
    }
    let site = SshSite::without_etcp(PORT);
    // The login reports the key of its own sproxy, and the port of another one.
    let program = site.program().display();
    let wrapper = format!("#!/bin/sh\n{program} \"$@\" | sed -u 's/port=[0-9]*/port=6300/'\n");
    let wrapper = site.folder.script("wrapper", &wrapper);
    std::fs::hard_link(wrapper, site.folder.join("server-bin/etcp")).expect("it is one folder");
    let sproxy = Launch::new("impostor", site.program())
        .args(["sproxy", "--listen", "127.0.0.1:6300", "--control", "none"])
        .args(["--strict-modes", "no", "--authorized-keys"])
        .arg(site.folder.join("ssh-authorized-keys"))
        .arg("--identity")
        .arg(generate(&site.folder, "impostor-key"))
        .env("HOME", site.folder.path())
        .env("RUST_LOG", "debug");
    let mut impostor = sproxy.start(&site.world.server, &site.folder);
    impostor.wait_for("keys in", PATIENCE);
    let ran = site.run("misled", &["--via-ssh"], "echo hello");
    ran.failed(255, "is not the expected server");
    impostor.wait_for("the peer does not trust this side's key", PATIENCE);
    assert_eq!(impostor.count("SHA256:"), 1, "{}", impostor.log());
    site.assert_tidy();
}

#[test]
fn a_shell_goes_on_while_the_client_moves_and_every_ssh_below_is_ended() {
    if !skip::can_run("netns::via_ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    let launch = site.ssh("ssh", &["--via-ssh"]).args(["-tt", "server"]);
    let mut shell = site.shell(launch);
    for fault in NetworkFault::CYCLE {
        fault.survive(&site.world);
        let started = Instant::now();
        shell.answer(NOT_STUCK);
        tell(&format!("{fault:?}: the shell answered after {:.2?}", started.elapsed()));
        // One process is the terminal's own ssh, and one is for the carrier.
        until("the ssh of the carrier before to end", PATIENCE, || {
            site.at_client("BatchMode=yes").len() == 1
        });
    }
    shell.end();
    until("the last ssh to end", PATIENCE, || site.at_client("ssh").is_empty());
    site.wait_until_gone();
}

#[test]
fn the_end_of_the_input_and_the_death_of_the_session_pass() {
    if !skip::can_run("netns::via_ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    let script = site.folder.readable_file(
        "script",
        "echo question | ./etcp ssh --via-ssh -F ssh_config server 'cat; echo answer'\n",
    );
    site.finish("ended", site.client(Launch::new("ended", "sh")).arg(script))
        .wrote("question\nanswer\n");
    // The sshd of the connection is the shell's parent.
    site.run("killed", &["--via-ssh"], "kill -9 $PPID").failed(255, "");
    site.wait_until_gone();
    site.assert_tidy();
}

#[test]
fn a_host_behind_a_jump_host_is_reached_through_ssh_and_stays_while_the_client_moves() {
    if !skip::can_run("netns::via_ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    // Only the server itself can reach this address.
    site.configure("Host inner\nHostName 127.0.0.1\nProxyJump server\n");
    let launch = site.ssh("jump", &[]).args(["-tt", "inner"]);
    let mut shell = site.shell(launch);
    for fault in [NetworkFault::ResetAndMove, NetworkFault::BlackholeThenMove] {
        fault.survive(&site.world);
        shell.answer(PATIENCE);
    }
    let log = shell.end();
    assert!(log.contains("ssh itself connects through something else"), "{log}");
    site.wait_until_gone();
}

#[test]
fn a_log_in_that_would_ask_is_reported_at_once() {
    if !skip::can_run("netns::via_ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    // Only the first login is admitted.
    let keys = site.folder.join("ssh-authorized-keys");
    let profile = format!("mv {} {}.gone 2>/dev/null\n", keys.display(), keys.display());
    site.folder.file("server-home/.bashrc", &profile, etcp_testkit::RunAs::Nobody);
    let ran = site.run("asked", &["--via-ssh"], "true");
    ran.failed(255, "Permission denied");
    assert!(ran.log.contains("etcp: ssh server: "), "{}", ran.log);
}
