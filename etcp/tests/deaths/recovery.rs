//! Sessions outlive the processes that serve them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use etcp_testkit::checked::{Pattern, Rate, accept};
use etcp_testkit::loopback::operator::{operate, status};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::{dial, is_over};
use etcp_testkit::loopback::{Cproxy, LoopbackRelay, LoopbackSite, LoopbackSproxy};
use etcp_testkit::streams::Streams;
use etcp_testkit::tell;

use super::{Victims, next_worker};

/// The number of bytes that the programs move.
const BULK: Rate = Rate { chunk: 256 * 1024, pause: Duration::ZERO };

/// A pair of proxies, and the target of their sessions.
pub(super) struct ProxiesAndTarget {
    target: TcpListener,
    cproxy: Cproxy,
    sproxy: LoopbackSproxy,
    site: LoopbackSite,
}

impl ProxiesAndTarget {
    pub(super) fn new() -> Self {
        Self::with(&[])
    }

    /// `args` are cproxy's.
    fn with(args: &[&str]) -> Self {
        let site = LoopbackSite::new();
        let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
        let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, args).attached();
        Self { target, cproxy, sproxy, site }
    }

    /// Opens a session.
    pub(super) fn session(&self) -> [TcpStream; 2] {
        let mut application = dial(self.cproxy.listen);
        let mut target = accept(&self.target);
        exchange(&mut application, &mut target);
        [application, target]
    }

    pub(super) fn programs(&self) -> [&RunningProgram; 2] {
        [&self.cproxy.program, &self.sproxy.program]
    }

    /// Ends both in order.
    pub(super) fn finish(mut self) {
        for program in [&mut self.cproxy.program, &mut self.sproxy.program] {
            program.signal(rustix::process::Signal::TERM);
            assert_eq!(program.end().0, Some(0), "{}", program.log());
            for trouble in ["the peer broke the protocol", "cannot be resumed", "panicked"] {
                assert_eq!(program.count(trouble), 0, "{}", program.log());
            }
        }
    }
}

#[track_caller]
pub(super) fn exchange(from: &mut TcpStream, to: &mut TcpStream) {
    let mut byte = [0];
    from.write_all(b"?").expect("the session is up");
    to.read_exact(&mut byte).expect("the session is up");
    to.write_all(b"!").expect("the session is up");
    from.read_exact(&mut byte).expect("the session is up");
}

#[test]
fn streams_go_on_when_the_worker_of_either_side_or_of_both_dies() {
    let proxies = ProxiesAndTarget::new();
    let [application, target] = proxies.session();
    let streams = Streams::start(application, target, Rate::BRISK);
    for victims in Victims::ALL {
        streams.go_on("the last death");
        victims.kill(proxies.programs());
        let pause = streams.go_on(&format!("the death of {victims:?}"));
        tell(&format!("{victims:?}: the streams paused for {pause:.2?}"));
    }
    streams.finish();
    proxies.finish();
}

#[test]
fn bulk_in_both_directions_survives_deaths_at_any_moment() {
    let proxies = ProxiesAndTarget::new();
    let sessions: Vec<_> = (0..4)
        .map(|_| proxies.session())
        .map(|[application, target]| Streams::start(application, target, BULK))
        .collect();
    for round in 0..12_u64 {
        let victims = Victims::ALL[usize::try_from(round % 3).expect("it is small")];
        // The workers are killed at different moments of the programs' work.
        std::thread::sleep(Duration::from_millis(1000 + 37 * round));
        victims.kill(proxies.programs());
        for streams in &sessions {
            streams.go_on(&format!("round {round}"));
        }
    }
    sessions.into_iter().for_each(Streams::finish);
    proxies.finish();
}

#[test]
fn a_worker_that_dies_while_it_replays_or_before_it_is_attached_loses_nothing() {
    let proxies = ProxiesAndTarget::new();
    let [application, target] = proxies.session();
    let streams = Streams::start(application, target, BULK);
    for victims in [Victims::Client, Victims::Server] {
        streams.go_on("the last death");
        for program in victims.among(proxies.programs()) {
            // The second worker has just begun.
            let first = program.kill_worker();
            next_worker(program, first);
            let second = program.kill_worker();
            next_worker(program, second);
        }
        streams.go_on("two deaths in a row");
    }
    streams.finish();
    proxies.finish();
}

#[test]
fn ends_and_resets_that_happen_between_two_workers_are_passed_on() {
    let proxies = ProxiesAndTarget::new();
    for victims in Victims::ALL {
        let mut half_closed = proxies.session();
        let [reset, reset_target] = proxies.session();
        let [mut quiet, mut quiet_target] = proxies.session();
        victims.kill(proxies.programs());
        // No worker serves at this moment, or the next one has just begun.
        half_closed[0].write_all(b"last words").expect("the kernel takes it");
        half_closed[0].shutdown(Shutdown::Write).expect("it is open");
        rustix::net::sockopt::set_socket_linger(&reset, Some(Duration::ZERO)).expect("an option");
        drop(reset);
        let mut text = Vec::new();
        half_closed[1].read_to_end(&mut text).expect("it ends in order");
        assert_eq!(text, b"last words", "{victims:?}");
        half_closed[1].write_all(b"the answer").expect("this direction is open");
        drop(std::mem::replace(&mut half_closed[1], dial_nothing()));
        half_closed[0].read_to_end(&mut text).expect("it ends in order");
        assert_eq!(text, b"last wordsthe answer", "{victims:?}");
        let error = (&reset_target).read(&mut [0]).expect_err("it is no end of stream");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{victims:?}");
        exchange(&mut quiet, &mut quiet_target);
    }
    proxies.finish();
}

/// Opens a connection without waiting for a worker.
fn dial_nothing() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    TcpStream::connect(listener.local_addr().expect("it listens")).expect("it listens")
}

#[test]
fn connections_that_arrive_between_two_workers_are_served() {
    let proxies = ProxiesAndTarget::new();
    // With no session at all, three deaths in a row would be the end of the program.
    let [mut application, mut target] = proxies.session();
    for _ in 0..3 {
        proxies.cproxy.program.kill_worker();
        // The kernel's queue takes the connection, whether or not a worker serves.
        let mut applications: Vec<_> = (0..5).map(|_| dial(proxies.cproxy.listen)).collect();
        for application in &mut applications {
            application.write_all(b"?").expect("the kernel takes it");
        }
        for _ in &applications {
            let mut target = accept(&proxies.target);
            target.read_exact(&mut [0]).expect("the first byte");
            target.write_all(b"!").expect("the session is up");
        }
        for application in &mut applications {
            application.read_exact(&mut [0]).expect("the session is up");
        }
    }
    exchange(&mut application, &mut target);
    proxies.finish();
}

/// Checks that two statuses have the same time of the beginning, in milliseconds: the next process
/// calculates it anew.
#[track_caller]
fn assert_same_start(now: &serde_json::Value, then: &serde_json::Value) {
    let [now, then] = [now, then].map(|it| it["started_at"].as_u64().expect("a time"));
    assert!(now.abs_diff(then) < 1000, "{now}, {then}");
}

#[test]
fn the_operator_finds_everything_where_it_was() {
    let proxies = ProxiesAndTarget::new();
    let [mut application, mut target] = proxies.session();
    let before = [("cproxy", &proxies.cproxy.program), ("sproxy", &proxies.sproxy.program)]
        .map(|(role, program)| status(&proxies.site, role, program));
    Victims::Both.kill(proxies.programs());
    exchange(&mut application, &mut target);
    for (before, (role, program)) in before
        .into_iter()
        .zip([("cproxy", &proxies.cproxy.program), ("sproxy", &proxies.sproxy.program)])
    {
        let after = status(&proxies.site, role, program);
        assert_eq!((&after["process"], &after["restarts"]), (&before["process"], &1.into()));
        assert_same_start(&after, &before);
        assert_eq!(after["listen"], before["listen"]);
        let (now, then) = (&after["tunnels"][0], &before["tunnels"][0]);
        assert_eq!(now["tunnel"], then["tunnel"], "{role}");
        assert_same_start(now, then);
        for total in ["sent_bytes", "received_bytes", "carriers"] {
            assert!(now[total].as_u64() > then[total].as_u64(), "{role}: {total}: {now} {then}");
        }
        let (now, then) = (&now["sessions"][0], &then["sessions"][0]);
        for field in ["session", "from", "target"] {
            assert_eq!(now[field], then[field], "{role}: {field}");
        }
    }
    let control = etcp_testkit::loopback::operator::control;
    let client = control(&proxies.site, "cproxy", &proxies.cproxy.program);
    assert_eq!(operate(&proxies.site, &["reconnect", "--control", &client]).code, Some(0));
    let said = operate(&proxies.site, &["sessions", "kill", "1", "--control", &client]);
    assert_eq!(said.code, Some(0), "{said:?}");
    wait("the session's end", || is_over(&application) && is_over(&target));
    proxies.finish();
}

#[test]
fn a_listener_at_the_server_is_kept_with_its_sessions_and_its_queue() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let there = target.local_addr().expect("it listens");
    let sproxy = LoopbackSproxy::start(&site, there);
    let remote = format!("127.0.0.1:0:{there}");
    let mut cproxy =
        Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &["-R", &remote]).attached();
    let line = cproxy.program.wait_for("the server listens on ");
    let listen = line.split("listens on ").nth(1).and_then(|it| it.split(' ').next());
    let listen: SocketAddr = listen.and_then(|it| it.parse().ok()).expect("an address");
    let mut first = dial(listen);
    let mut first_target = accept(&target);
    exchange(&mut first, &mut first_target);
    let proxies = ProxiesAndTarget { target, cproxy, sproxy, site };
    for victims in Victims::ALL {
        victims.kill(proxies.programs());
        let mut next = dial(listen);
        next.write_all(b"?").expect("the kernel takes it");
        let mut next_target = accept(&proxies.target);
        next_target.read_exact(&mut [0]).expect("the session is up");
        exchange(&mut next, &mut next_target);
        exchange(&mut first, &mut first_target);
    }
    proxies.finish();
}

#[test]
fn a_carrier_that_is_cut_beside_a_death_changes_nothing() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
    let relay = LoopbackRelay::start([127, 0, 0, 7], sproxy.address);
    let cproxy = Cproxy::start(&site, relay.address, "cproxy").attached();
    let proxies = ProxiesAndTarget { target, cproxy, sproxy, site };
    let [application, target] = proxies.session();
    let streams = Streams::start(application, target, BULK);
    for victims in Victims::ALL {
        streams.go_on("the last death");
        relay.cut();
        victims.kill(proxies.programs());
        relay.cut();
        streams.go_on(&format!("a cut and the death of {victims:?}"));
    }
    streams.finish();
    proxies.finish();
}

#[test]
fn data_that_wait_for_a_reader_are_there_after_any_number_of_deaths() {
    let proxies = ProxiesAndTarget::new();
    let [mut application, mut target] = proxies.session();
    let pattern = Pattern(7);
    let length = 3 << 20;
    let sender = std::thread::spawn(move || {
        application.write_all(&pattern.bytes(0, length)).expect("the session is up");
        application
    });
    for victims in Victims::ALL {
        for (program, killed) in victims.kill(proxies.programs()) {
            next_worker(program, killed);
        }
    }
    let mut got = vec![0; length];
    target.read_exact(&mut got).expect("the session is up");
    pattern.check(0, &got);
    drop(sender.join().expect("it sends everything"));
    proxies.finish();
}
