//! A proxy that is being drained stays so, whatever happens to its worker or its program.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::operator::{answering, control, operate, status};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::worker::existing_worker_of;
use rustix::process::Signal;

use super::{kill_worker, next_worker};

/// A change of the process that serves a proxy.
#[derive(Clone, Copy, Debug)]
enum WorkerChange {
    Kill,
    Upgrade,
}

const CHANGES: [WorkerChange; 3] = [WorkerChange::Kill, WorkerChange::Upgrade, WorkerChange::Kill];

impl WorkerChange {
    /// Applies the change to a proxy, and waits for its next worker.
    #[track_caller]
    fn apply(self, site: &LoopbackSite, control: &str, program: &RunningProgram) {
        let before = program.worker();
        match self {
            Self::Kill => {
                kill_worker(program);
            }
            Self::Upgrade => {
                let said = operate(site, &["upgrade", "--control", control]);
                assert_eq!(said.code, Some(0), "{said:?} {}", program.log());
            }
        }
        next_worker(program, before);
    }
}

#[track_caller]
fn drain(site: &LoopbackSite, control: &str, args: &[&str]) {
    let said = operate(site, &[&["drain", "--control", control], args].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_drained_client_leaves_its_addresses_to_others_also_after_a_death_and_an_upgrade() {
    let (site, echo, port) = (LoopbackSite::new(), Echo::start(), HeldPort::take());
    let sproxy = LoopbackSproxy::start(&site, echo.address);
    let listen = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let (own, remote) = (listen.to_string(), format!("127.0.0.1:0:{}", echo.address));
    let args = ["--listen", &own, "-R", &remote];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    cproxy.program.wait_for("the server listens on ");
    let steady: Vec<_> = (0..3).map(|_| Steady::start(listen)).collect();
    let own = control(&site, "cproxy", &cproxy.program);
    drain(&site, &own, &[]);
    wait("its listener to be gone", || TcpStream::connect(listen).is_err());
    // Somebody else has the address from now on.
    let successor = TcpListener::bind(listen).expect("it is free");
    for change in CHANGES {
        change.apply(&site, &own, &cproxy.program);
        steady.iter().for_each(Steady::goes_on);
        let shown = || status(&site, "cproxy", &cproxy.program);
        let status = shown();
        assert_eq!(status["is_draining"], true, "{change:?}");
        assert_eq!(status["listen"].as_array().map(Vec::len), Some(2), "{status}");
        // No session, and no listener at the server. The connection that found the listener gone
        // may have ended a moment ago.
        wait("three sessions alone", || {
            shown()["tunnels"][0]["sessions"].as_array().is_some_and(|all| all.len() == 3)
        });
    }
    assert_eq!(cproxy.program.count("the server listens on "), 1, "{}", cproxy.program.log());
    drop(successor);
    steady.into_iter().for_each(Steady::finish);
    assert_eq!(cproxy.program.end().0, Some(0), "{}", cproxy.program.log());
}

/// Lets a client make a new carrier.
#[track_caller]
fn reconnect(site: &LoopbackSite, client: &Cproxy) {
    let own = control(site, "cproxy", &client.program);
    let before = client.attached_again();
    assert_eq!(operate(site, &["reconnect", "--control", &own]).code, Some(0));
    wait("it to be attached again", || client.attached_again() > before);
}

/// Sends a request through a proxy, and waits for the answer.
fn exchange(stream: &mut TcpStream) {
    stream.write_all(b"ping").expect("the session is up");
    stream.read_exact(&mut [0; 4]).expect("the session is up");
}

#[test]
fn a_drained_server_and_its_successor_keep_their_clients_apart_after_deaths_and_upgrades() {
    let (site, echo) = (LoopbackSite::new(), Echo::start());
    let path = site.path().join("sproxy.sock");
    let own = path.to_str().expect("text").to_owned();
    let mut old = LoopbackSproxy::with(
        &site,
        echo.address,
        &["--listen", "127.0.0.1:0", "--control", &own],
        None,
    );
    let address = old.address.to_string();
    let first = Cproxy::start(&site, old.address, "first").attached();
    let steady: Vec<_> = (0..3).map(|_| Steady::start(first.listen)).collect();
    drain(&site, &own, &[]);
    let args = ["--listen", &address, "--control", &own];
    let new = LoopbackSproxy::with(&site, echo.address, &args, None);
    let second = Cproxy::start(&site, new.address, "second").attached();
    let later = Steady::start(second.listen);
    let moved = site.path().join(format!("sproxy.{}.sock", old.program.id()));
    let moved_text = moved.to_str().expect("text").to_owned();
    // A new session of the drained server's client waits.
    let mut waiting = dial(first.listen);
    waiting.write_all(b"ping").expect("it is taken");
    for change in CHANGES {
        change.apply(&site, &moved_text, &old.program);
        change.apply(&site, &own, &new.program);
        steady.iter().chain([&later]).for_each(Steady::goes_on);
        for (socket, program, is_draining) in
            [(&moved, &old.program, true), (&path, &new.program, false)]
        {
            assert_eq!(answering(&site, socket), (program.id().into(), is_draining), "{change:?}");
        }
    }
    // The kernel gives each carrier to one of them.
    for client in [&first, &second] {
        for _ in 0..6 {
            reconnect(&site, client);
            steady.iter().chain([&later]).for_each(Steady::goes_on);
        }
    }
    assert!(old.program.is_running(), "it has sessions");
    steady.into_iter().for_each(Steady::finish);
    assert_eq!(old.program.end().0, Some(0), "{}", old.program.log());
    waiting.read_exact(&mut [0; 4]).expect("the successor has it");
    exchange(&mut dial(first.listen));
    assert!(path.exists() && !moved.exists());
    later.finish();
}

#[test]
fn the_time_of_a_drain_goes_on_after_a_death() {
    let (site, echo) = (LoopbackSite::new(), Echo::start());
    let mut sproxy = LoopbackSproxy::start(&site, echo.address);
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    for (role, server) in [("cproxy", false), ("sproxy", true)] {
        let mut steady = (!server).then(|| Steady::start(cproxy.listen));
        let program = if server { &mut sproxy.program } else { &mut cproxy.program };
        let own = control(&site, role, program);
        drain(&site, &own, &["--timeout", "1h"]);
        if !server {
            WorkerChange::Kill.apply(&site, &own, program);
            steady.iter().for_each(Steady::goes_on);
            // Another time replaces the one that is kept. It may be over before the death.
            drain(&site, &own, &["--timeout", "3s"]);
            if let Some(worker) = existing_worker_of(program.id()) {
                let _ = kill_raw(worker, Signal::KILL);
            }
        }
        assert_eq!(program.end().0, Some(0), "{}", program.log());
        if let Some(steady) = &mut steady {
            assert!(steady.ended().is_some(), "the time is over");
        }
    }
}
