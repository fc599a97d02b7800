//! Many clients of one key: a fleet, or one user's many programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, connect};

const CLIENTS: usize = 80;

/// Echoes a byte.
fn echo(stream: &mut TcpStream, byte: u8) {
    stream.write_all(&[byte]).expect("the session lives");
    let mut answer = [0];
    stream.read_exact(&mut answer).expect("the session lives");
    assert_eq!(answer, [byte]);
}

#[test]
fn eighty_clients_of_one_key_go_on_after_ten_seconds_without_a_network() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let relay = LoopbackRelay::start([127, 0, 0, 1], sproxy.address);
    let names = (0..CLIENTS).map(|number| format!("client{number}"));
    let clients: Vec<_> = names.map(|name| Cproxy::start(&site, relay.address, &name)).collect();
    let mut clients: Vec<_> = clients.into_iter().map(Cproxy::attached).collect();
    let mut sessions: Vec<_> = clients.iter().map(|client| dial(client.listen)).collect();
    sessions.iter_mut().for_each(|session| echo(session, 1));
    relay.close();
    // Each logs it after waiting for ten seconds. The server's log leaves lines out.
    for client in &mut clients {
        client.program.wait_for("waiting for ");
    }
    relay.open();
    sessions.iter_mut().for_each(|session| echo(session, 2));
    assert_eq!(sproxy.program.count("is closed"), 0, "{}", sproxy.program.log());
}

/// Starts an `etcp connect` whose session has carried a byte.
fn connected(site: &LoopbackSite, sproxy: &LoopbackSproxy) -> Child {
    let command = &mut connect(site, sproxy.address, &site.client, &[]);
    let mut child = command.spawn().expect("it runs");
    ask(&mut child, 1);
    child
}

/// Starts an `etcp connect` over several carriers, all of which have joined.
fn connected_by_several(site: &LoopbackSite, sproxy: &LoopbackSproxy) -> Child {
    let command = &mut connect(site, sproxy.address, &site.client, &["--carriers", "3", "-v"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
    ask(&mut child, 1);
    let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    assert!(log.any(|line| line.is_ok_and(|line| line.contains("carrier 3 of 3"))), "it joins");
    child
}

fn ask(child: &mut Child, byte: u8) {
    child.stdin.as_mut().expect("it is piped").write_all(&[byte]).expect("it reads");
    let mut answer = [0];
    child.stdout.as_mut().expect("it is piped").read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, [byte]);
}

#[test]
fn tunnels_of_killed_processes_end_and_the_tunnel_of_a_stopped_one_stays() {
    let site = LoopbackSite::new();
    let args = ["--listen", "127.0.0.1:0", "--keep-ghosts", "2s"];
    let mut sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    let mut stopped = connected(&site, &sproxy);
    kill_process(Pid::from_child(&stopped), Signal::STOP).expect("it runs");
    // They die together: each of them would outlive those that died before.
    let starts = [connected, connected, connected_by_several, connected_by_several];
    let mut killed = starts.map(|start| start(&site, &sproxy));
    killed.iter_mut().for_each(|child| child.kill().expect("it runs"));
    for child in &mut killed {
        child.wait().expect("it is ours");
    }
    // The server may notice the silence of the stopped process before or after the killed ones.
    let is_killed = |line: &str| line.contains("carrier lost") && !line.contains("silent for");
    wait("those that were killed to be detached", || {
        sproxy.program.log().lines().filter(|line| is_killed(line)).count() >= 4
    });
    assert_eq!(sproxy.program.count("its process is gone"), 0, "nobody outlives them");
    let mut live = connected(&site, &sproxy);
    sproxy.program.wait_for_count("its process is gone", 4);
    sproxy.program.wait_for_count("tunnel over", 4);
    kill_process(Pid::from_child(&stopped), Signal::CONT).expect("it runs");
    ask(&mut stopped, 2);
    ask(&mut live, 2);
    assert_eq!(sproxy.program.count("its process is gone"), 4);
    for mut child in [stopped, live] {
        drop(child.stdin.take());
        assert!(child.wait().expect("it is ours").success());
    }
}
