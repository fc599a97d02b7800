//! Kill, reconnect and drain under load: what goes on loses nothing.

mod loopback;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use loopback::operator::{control, operate, session_of, status};
use loopback::program::wait;
use loopback::socket::dial;
use loopback::{Cproxy, Echo, Relay, Site, Sproxy, Steady};

fn served() -> (Site, Sproxy, Cproxy) {
    let site = Site::new();
    let sproxy = Sproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    (site, sproxy, cproxy)
}

/// A session over which something has gone round.
fn session(cproxy: &Cproxy) -> TcpStream {
    let mut stream = dial(cproxy.listen);
    stream.write_all(b"ping").expect("a session takes it");
    stream.read_exact(&mut [0; 4]).expect("it comes back");
    stream
}

/// How a session ends whose application only reads.
fn end(mut stream: &TcpStream) -> Option<ErrorKind> {
    stream.read(&mut [0; 16]).err().map(|error| error.kind())
}

fn count(site: &Site, cproxy: &Cproxy) -> usize {
    let status = status(site, "cproxy", &cproxy.program);
    status["tunnels"][0]["sessions"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_killed_session_is_reset_on_both_sides_and_the_others_go_on() {
    let (site, sproxy, mut cproxy) = served();
    let steady: Vec<_> = (0..8).map(|_| Steady::start(cproxy.listen)).collect();
    let victims = [session(&cproxy), session(&cproxy)];
    let client = control(&site, "cproxy", &cproxy.program);
    let told = status(&site, "cproxy", &cproxy.program);
    let id = |n: usize| session_of(&told, victims[n].local_addr().expect("an address")).to_string();
    let tunnel = told["tunnels"][0]["tunnel"].as_str().expect("it has a name").to_owned();

    let said = operate(&site, &["sessions", "kill", &id(0), "--control", &client]);
    assert_eq!((said.code, said.out), (Some(0), format!("session {} is reset\n", id(0))));
    assert_eq!(end(&victims[0]), Some(ErrorKind::ConnectionReset));
    // From the server's side, by its tunnel's name alone or with the socket.
    let server = control(&site, "sproxy", &sproxy.program);
    let named = format!("{tunnel}/{}", id(1));
    let said = operate(&site, &["sessions", "kill", &named, "--control", &server]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(end(&victims[1]), Some(ErrorKind::ConnectionReset));
    wait("both sides to forget them", || {
        let sessions = status(&site, "sproxy", &sproxy.program);
        let there = sessions["tunnels"][0]["sessions"].as_array().map(Vec::len);
        there == Some(8) && count(&site, &cproxy) == 8
    });
    cproxy.program.wait_for("ended by the operator");

    for (wrong, why) in [
        (id(0), format!("there is no session {}", id(0))),
        ("0".to_owned(), "there is no session 0".to_owned()),
        (format!("00000000/{}", id(0)), "there is no tunnel 00000000".to_owned()),
    ] {
        for socket in [&client, &server] {
            let said = operate(&site, &["sessions", "kill", &wrong, "--control", socket]);
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.err.contains(&why) && said.err.lines().count() == 1, "{said:?}");
        }
    }
    let said = operate(&site, &["sessions", "kill", "everything"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    steady.into_iter().for_each(Steady::finish);
}

#[test]
fn a_session_is_killed_in_an_outage_and_the_peer_hears_of_it_after() {
    let site = Site::new();
    let sproxy = Sproxy::start(&site, Echo::start().address);
    let relay = Relay::start([127, 0, 0, 7], sproxy.address);
    let cproxy = Cproxy::start(&site, relay.address, "cproxy").attached();
    let (steady, victim) = (Steady::start(cproxy.listen), session(&cproxy));
    let told = status(&site, "cproxy", &cproxy.program);
    let id = session_of(&told, victim.local_addr().expect("an address")).to_string();
    sproxy.program.freeze();
    relay.cut();
    let client = control(&site, "cproxy", &cproxy.program);
    let said = operate(&site, &["sessions", "kill", &id, "--control", &client]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(end(&victim), Some(ErrorKind::ConnectionReset), "at once on this side");
    sproxy.program.signal(rustix::process::Signal::CONT);
    wait("the server to hear of it", || {
        let there = status(&site, "sproxy", &sproxy.program);
        there["tunnels"][0]["sessions"].as_array().is_some_and(|sessions| sessions.len() == 1)
    });
    steady.goes_on();
    steady.finish();
}

#[test]
fn connecting_again_on_demand_under_load_loses_nothing() {
    let (site, _sproxy, cproxy) = served();
    let steady: Vec<_> = (0..8).map(|_| Steady::start(cproxy.listen)).collect();
    let client = control(&site, "cproxy", &cproxy.program);
    for times in 1..=5 {
        let said = operate(&site, &["reconnect", "--control", &client]);
        assert_eq!(said.code, Some(0), "{said:?}");
        wait("it to be attached again", || cproxy.attached_again() >= times);
        steady.iter().for_each(Steady::goes_on);
    }
    let told = status(&site, "cproxy", &cproxy.program);
    let tunnel = &told["tunnels"][0];
    assert!(tunnel["carriers"].as_u64().is_some_and(|it| it >= 6), "{tunnel}");
    assert_eq!(tunnel["last_loss"]["kind"], "replaced", "{tunnel}");
    steady.into_iter().for_each(Steady::finish);
}

#[test]
fn a_drained_client_takes_nothing_new_and_ends_with_its_last_session() {
    let (site, mut sproxy, mut cproxy) = served();
    let mut steady: Vec<_> = (0..4).map(|_| Steady::start(cproxy.listen)).collect();
    let client = control(&site, "cproxy", &cproxy.program);
    let said = operate(&site, &["drain", "--control", &client]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("takes no new sessions; 4 go on"), "{said:?}");
    wait("its listener to be gone", || TcpStream::connect(cproxy.listen).is_err());
    assert_eq!(status(&site, "cproxy", &cproxy.program)["is_draining"], true);
    while let Some(one) = steady.pop() {
        assert!(cproxy.program.is_running(), "sessions are left");
        steady.iter().for_each(Steady::goes_on);
        one.finish();
    }
    assert_eq!(cproxy.program.end().0, Some(0), "{}", cproxy.program.log());
    sproxy.program.wait_for("closed by the client: ended as asked");
}

#[test]
fn a_drained_server_takes_nothing_new_and_ends_with_its_last_session() {
    let (site, mut sproxy, mut cproxy) = served();
    let steady: Vec<_> = (0..4).map(|_| Steady::start(cproxy.listen)).collect();
    let server = control(&site, "sproxy", &sproxy.program);
    let said = operate(&site, &["drain", "--control", &server]);
    assert!(said.out.contains("4 go on"), "{said:?}");
    let late = dial(cproxy.listen);
    assert_eq!(end(&late), Some(ErrorKind::ConnectionReset), "a new session is reset");
    cproxy.program.wait_for("no new sessions are taken");
    let mut newcomer = Cproxy::start(&site, sproxy.address, "newcomer");
    newcomer.program.wait_for("takes no new clients");
    // The tunnels that there are get their carriers.
    let client = control(&site, "cproxy", &cproxy.program);
    let before = cproxy.attached_again();
    assert_eq!(operate(&site, &["reconnect", "--control", &client]).code, Some(0));
    wait("it to be attached again", || cproxy.attached_again() > before);
    steady.iter().for_each(Steady::goes_on);
    assert!(sproxy.program.is_running());
    steady.into_iter().for_each(Steady::finish);
    assert_eq!(sproxy.program.end().0, Some(0), "{}", sproxy.program.log());
}

#[test]
fn a_drain_may_have_a_limit_and_may_be_waited_for() {
    let (site, mut sproxy, mut cproxy) = served();
    let mut steady = Steady::start(cproxy.listen);
    let client = control(&site, "cproxy", &cproxy.program);
    let args = ["drain", "--timeout", "1s", "--wait", "--control", &client];
    let said = operate(&site, &args);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(steady.ended().is_some(), "the limit is reached");
    assert_eq!(cproxy.program.end().0, Some(0));
    let server = control(&site, "sproxy", &sproxy.program);
    let said = operate(&site, &["drain", "--now", "--wait", "--control", &server]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(sproxy.program.end().0, Some(0));
}

#[test]
fn without_a_session_a_drained_proxy_ends_at_once_also_in_an_outage() {
    let site = Site::new();
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    let mut cproxy = Cproxy::start(&site, nowhere, "cproxy");
    wait("its socket", || operate(&site, &["status"]).code == Some(0));
    let said = operate(&site, &["drain", "--wait"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(cproxy.program.end().0, Some(0));
}
