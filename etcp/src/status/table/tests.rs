//! Tables of whole answers.

use super::samples::{NOW, ago, process, session, tunnel};
use super::*;
use eternaltcp::control::{ForwardStatus, ProxyKind, RestartStatus};
use eternaltcp::status::ClientPeer;

fn page(tunnel: TunnelStatus, all: bool) -> String {
    let process = process(vec![tunnel]);
    render(&[process], SystemTime::UNIX_EPOCH + NOW, all, None)
}

#[test]
fn a_client_whose_listeners_are_all_at_its_server_is_running() {
    let process = ProcessStatus { listen: Vec::new(), ..process(Vec::new()) };
    let table = render(&[process], SystemTime::UNIX_EPOCH + NOW, false, None);
    assert!(table.starts_with("cproxy 4711: running for 3.0 h\n"), "{table}");
}

#[test]
fn forwards_say_where_they_lead() {
    let forward = |listen: &str, is_remote, target: &str| ForwardStatus {
        server: None,
        listen: listen.to_owned(),
        is_remote,
        target: target.to_owned(),
    };
    let forwards = vec![
        forward("127.0.0.1:5432", false, "db:5432"),
        forward("localhost:8080", true, "localhost:80"),
    ];
    let show = |forwards: Vec<_>| {
        let process = ProcessStatus { forwards, ..process(Vec::new()) };
        render(&[process], SystemTime::UNIX_EPOCH + NOW, false, None)
    };
    let table = show(forwards.clone());
    let lines = "\n  forward 127.0.0.1:5432 to db:5432\n  forward at the server localhost:8080 to localhost:80\n";
    assert!(table.contains(lines), "{table}");
    let of_office =
        forwards.into_iter().map(|it| ForwardStatus { server: Some("office".to_owned()), ..it });
    let table = show(of_office.collect());
    let lines = "\n  forward 127.0.0.1:5432 to db:5432 through office\n  forward at office localhost:8080 to localhost:80\n";
    assert!(table.contains(lines), "{table}");
}

#[test]
fn a_program_of_one_task_says_what_it_runs_for_and_whose_it_is() {
    let process = ProcessStatus {
        about: Some("me@host".to_owned()),
        user: Some("ann".to_owned()),
        role: ProxyKind::Ssh,
        listen: Vec::new(),
        ..process(Vec::new())
    };
    let table = render(&[process], SystemTime::UNIX_EPOCH + NOW, false, None);
    assert!(table.starts_with("ssh 4711 of ann: me@host for 3.0 h\n"), "{table}");
}

#[test]
fn a_process_that_was_restarted_says_why_and_when() {
    let last = RestartStatus { cause: "SIGKILL".to_owned(), restarted_at: ago(720) };
    let process = ProcessStatus { restarts: 2, last_restart: Some(last), ..process(Vec::new()) };
    let table = render(&[process], SystemTime::UNIX_EPOCH + NOW, false, None);
    assert!(table.contains("\n  2 restarts, the last 12 min ago: SIGKILL\n"), "{table}");
}

#[test]
fn the_table_tells_what_a_person_wants_to_know() {
    let expected = "\
cproxy 4711: listening on 127.0.0.1:5200 for 3.0 h
  tunnel 33d69d2a to example.org:6200: attached for 12 min
    path       192.0.2.7:51742 to 198.51.100.1:6200 via wlan0, round trip 23 ms ± 4.10 ms, with 3 more beside it
    spare      10.0.0.2:40404 to 198.51.100.1:6200 via eth0, round trip 41 ms, quiet, silent for 9.00 s
    carriers   5 so far, 7 dials, 3 doubts, of them 1 false alarm
    last loss  12 min ago, silent: silent for 3s; back after 0.31 s, 48 kB replayed
    data       12 MB sent, 340 MB received, 0 B queued out, 0 B queued in, 48 kB replayed
    SESSION  FROM             TARGET          FOR   SENT    RECEIVED  QUEUED
    1        127.0.0.1:40001  localhost:5432  30 s  1.2 kB  1 B       0 B out, 0 B in
    3        127.0.0.1:40003  localhost:5432  30 s  1.2 kB  3 B       0 B out, 0 B in
";
    assert_eq!(page(tunnel(), false), expected);
}

#[test]
fn a_tunnel_without_a_carrier_says_for_whom_it_waits_and_why() {
    let mut waiting = tunnel();
    (waiting.state, waiting.carrier) = (TunnelCondition::Detached, None);
    (waiting.state_since_at, waiting.why) = (ago(20), Some("connection refused".to_owned()));
    let text = page(waiting.clone(), false);
    let line = "example.org:6200: waiting for the server for 20 s: connection refused";
    assert!(text.contains(line), "{text}");
    waiting.peer = Peer::Client(ClientPeer {
        key: "SHA256:abc".to_owned(),
        key_name: None,
        from: "192.0.2.7".to_owned(),
        name: "evil\x1b[2Jname".to_owned(),
        user: "1000".to_owned(),
        machine: "0123456789abcdef".to_owned(),
    });
    let mut named = waiting.clone();
    if let Peer::Client(client) = &mut named.peer {
        client.key_name = Some("ann@laptop".to_owned());
    }
    assert!(page(named, false).contains("client     ann@laptop, SHA256:abc, user 1000, "));
    (waiting.why, waiting.sessions) = (Some("bad\x1b[2J\nwords".to_owned()), Vec::new());
    let text = page(waiting, false);
    assert!(text.contains("from 192.0.2.7: waiting for its client for 20 s: bad"), "{text}");
    assert!(text.contains("SHA256:abc, user 1000, machine 01234567…\n"), "{text}");
    assert!(text.contains("no sessions"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn the_sessions_that_hold_most_are_listed_if_there_are_many() {
    let mut crowded = tunnel();
    crowded.sessions = (0..100).map(|number| session(number * 2 + 1)).collect();
    crowded.sessions[0].queued_bytes = 9_000;
    let text = page(crowded.clone(), false);
    assert!(text.contains("9.0 kB out"), "{text}");
    assert!(text.contains("and 80 more sessions (--all lists them)"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("localhost:5432")).count(), LISTED);
    let text = page(crowded, true);
    assert_eq!(text.lines().filter(|line| line.contains("localhost:5432")).count(), 100);
}

#[test]
fn thousands_of_rows_are_each_drawn_once_in_order_and_in_columns() {
    const COUNT: u32 = 3500;
    let mut crowded = tunnel();
    crowded.sessions = (0..COUNT).map(|number| session(number * 2 + 1)).collect();
    let processes = [process(vec![crowded])];
    let (mut rates, start) = (Rates::default(), std::time::Instant::now());
    rates.take(&processes, start);
    rates.take(&processes, start + Duration::from_secs(1));
    let text = render(&processes, SystemTime::UNIX_EPOCH + NOW, true, Some(&rates));
    let rows: Vec<_> = text.lines().filter(|line| line.contains("localhost:5432")).collect();
    let numbers: Vec<u32> =
        rows.iter().map(|row| row.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..COUNT).map(|number| number * 2 + 1).collect::<Vec<_>>());
    let column = rows[0].find("localhost:5432");
    assert!(rows.iter().all(|row| row.find("localhost:5432") == column), "{}", rows[0]);
    // Nothing is drawn for each of them beside its row.
    let few = render(&[process(vec![tunnel()])], SystemTime::UNIX_EPOCH + NOW, true, None);
    assert_eq!(text.lines().count() - rows.len(), few.lines().count() - 2);
}
