//! A key with a passphrase, held by ssh-agent or typed, while the client moves: it is needed only
//! for the first carrier.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use etcp_testkit::checked::{Rate, accept, connect, listen};
use etcp_testkit::pair::DEFAULT_LISTEN;
use etcp_testkit::streams::Streams;
use etcp_testkit::terminal::Terminal;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::{
    IpFamily, Launch, NetworkFault, Process, ProxyPair, RunAs, Sproxy, TestFolder, TestWorld, skip,
};

const PASSPHRASE: &str = "secret words";

/// A world with an sproxy, whose client has a key with a passphrase.
struct RoamSite {
    world: TestWorld,
    folder: TestFolder,
    target: std::net::TcpListener,
}

impl RoamSite {
    fn new() -> (Self, Sproxy) {
        let (world, folder) = (TestWorld::new(), TestFolder::new());
        let target = listen(&world.server, "127.0.0.1:0");
        let address = target.local_addr().expect("it listens").to_string();
        let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, &address, &[]);
        let site = Self { world, folder, target };
        let status = Command::new("ssh-keygen")
            .args(["-q", "-p", "-P", "", "-N", PASSPHRASE, "-f"])
            .arg(site.key())
            .status();
        assert!(status.expect("ssh-keygen runs").success(), "the key has a passphrase");
        (site, sproxy)
    }

    fn key(&self) -> PathBuf {
        self.folder.join("client-key")
    }

    /// Runs a stream each way through faults whose end `survive` waits for.
    fn stream(&self, mut survive: impl FnMut(NetworkFault)) {
        let application = connect(&self.world.client, DEFAULT_LISTEN);
        let streams = Streams::start(application, accept(&self.target), Rate::SLOW);
        for fault in
            [NetworkFault::ResetAndMove, NetworkFault::BlackholeThenMove, NetworkFault::SoftMove]
        {
            survive(fault);
            streams.go_on(&format!("{fault:?}"));
        }
        streams.finish();
    }

    /// Starts an agent that holds the key. Also returns where it listens.
    fn agent(&self) -> (Process, PathBuf) {
        let socket = self.folder.folder("agent", RunAs::Nobody).join("socket");
        let agent = Launch::new("agent", "ssh-agent").args(["-D", "-a"]).arg(&socket);
        let agent = agent.start(&self.world.client, &self.folder);
        // Its socket has a name before it accepts connections.
        until("the agent to listen", PATIENCE, || UnixStream::connect(&socket).is_ok());
        let answer = format!("#!/bin/sh\necho '{PASSPHRASE}'\n");
        let mut add = Launch::new("add", "ssh-add")
            .arg(self.key())
            .env("SSH_AUTH_SOCK", &socket)
            .env("SSH_ASKPASS", self.folder.script("askpass", &answer))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .start(&self.world.client, &self.folder);
        assert!(add.wait(PATIENCE).success(), "{}", add.log());
        (agent, socket)
    }
}

#[test]
fn a_key_that_the_agent_holds_is_needed_once_however_the_client_moves() {
    if !skip::can_run("netns::agent_roam (agent)", &["ssh-agent", "ssh-add"]) {
        return;
    }
    let (site, sproxy) = RoamSite::new();
    let (mut agent, socket) = site.agent();
    let with_agent = |launch: Launch| launch.env("SSH_AUTH_SOCK", &socket);
    let mut pair = ProxyPair::start_with(&site.world, &site.folder, sproxy, with_agent);
    agent.stop(PATIENCE);
    site.stream(|fault| pair.survive(fault, &site.world));
}

#[test]
fn a_passphrase_is_typed_once_however_the_client_moves() {
    if !skip::can_run("netns::agent_roam (passphrase)", &["setsid"]) {
        return;
    }
    let (site, sproxy) = RoamSite::new();
    let command = sproxy.client_command("cproxy");
    let launch = Launch::new("cproxy", &command[0])
        .args(&command[1..])
        .args(["--listen", DEFAULT_LISTEN])
        .env("HOME", site.folder.path())
        .run_by(["setsid", "--ctty", "--wait"]);
    let mut terminal = Terminal::start(launch, &site.world.client, &site.folder);
    terminal.expect("passphrase", PATIENCE);
    terminal.line(PASSPHRASE);
    terminal.process().wait_for("attached", PATIENCE);
    site.stream(|fault| {
        let before = terminal.process().count("attached again");
        fault.survive(&site.world);
        terminal.process().wait_for_count("attached again", before + 1, PATIENCE);
    });
    assert_eq!(terminal.shown().matches("passphrase").count(), 1, "{}", terminal.shown());
}
