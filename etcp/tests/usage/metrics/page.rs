//! The page for people, and its events.

use std::io::Write;
use std::net::TcpListener;
use std::thread::spawn;

use etcp_testkit::loopback::operator::status;
use etcp_testkit::loopback::socket::{dial, is_closed, raise_own_limit};
use etcp_testkit::loopback::{Cproxy, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};

use super::events::EventReader;
use super::http::{address, ask, get, sample};
use super::{METRICS, MetricsFixture};

#[test]
fn the_page_is_one_file_that_may_load_nothing_from_elsewhere() {
    let all = MetricsFixture::new();
    let page = get(all.metrics, "/");
    let head = page.head.to_ascii_lowercase();
    assert!(page.status == 200 && page.text.starts_with("<!doctype html>"), "{head}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "{line} is not in\n{head}");
    }
    for path in ["/", "/events"] {
        assert_eq!(ask(all.metrics, &format!("GET {path}"), "Host: evil.example\r\n").status, 403);
        assert_eq!(ask(all.metrics, &format!("POST {path}"), "Content-Length: 0\r\n").status, 405);
        let head = ask(all.metrics, &format!("HEAD {path}"), "");
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    // A page from elsewhere could not read them, but would use up a place.
    let foreign = ask(all.metrics, "GET /events", "Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(foreign.status, 403);
}

#[test]
fn the_events_show_tunnels_sessions_and_pauses_as_they_come() {
    let all = MetricsFixture::new();
    let mut events = EventReader::open(all.metrics);
    events.wait_for("the first state", |it| it["role"] == "sproxy" && it["sums"]["tunnels"] == 0);
    let name = "<script>alert(1)</script>";
    all.site.admit(&[&format!("{} {name}", all.site.client.line)]);
    let relay = LoopbackRelay::start([127, 0, 0, 9], all.sproxy.address);
    let (cproxy, client) = all.client(relay.address);
    let steady = Steady::start(cproxy.listen);
    steady.goes_on();
    let state = events.wait_for("the session", |it| it["sums"]["sessions"] == 1);
    let tunnel = &state["tunnels"][0];
    assert_eq!((&tunnel["state"], &tunnel["session_count"]), (&"attached".into(), &1.into()));
    assert_eq!(tunnel["who"], name, "the page shows it as text");

    relay.close();
    relay.cut();
    events.wait_for("the loss", |it| it["tunnels"][0]["state"] == "detached");
    relay.open();
    let state = events.wait_for("the end of the pause", |it| it["pauses"][0]["who"] == name);
    assert!(state["pauses"][0]["length_ms"].as_f64().is_some_and(|it| it > 0.0), "{state}");
    let mut events = EventReader::open(client);
    let state = events.wait_for("the pause", |it| it["pauses"][0]["length_ms"].is_number());
    assert_eq!((&state["role"], &state["sums"]["tunnels"]), (&"cproxy".into(), &1.into()));
    steady.goes_on();
}

#[test]
fn a_few_pages_are_open_at_once_and_others_are_told_so() {
    let all = MetricsFixture::new();
    let mut open: Vec<_> = (0..4).map(|_| EventReader::open(all.metrics)).collect();
    open.iter_mut()
        .for_each(|events| drop(events.wait_for("a state", |it| it["role"].is_string())));
    let told = EventReader::open(all.metrics).next().expect("an event");
    assert_eq!(told, (Some("full".to_owned()), 4.into()));
    // Prometheus still has its places.
    assert_eq!(sample(all.metrics, "etcp_tunnels{state=\"attached\"}"), 0.0);
    // A page that is closed leaves its place to the next one.
    open.pop();
    let mut next = loop {
        let mut events = EventReader::open(all.metrics);
        if let Some((None, _)) = events.next() {
            break events;
        }
    };
    next.wait_for("a state", |it| it["role"] == "sproxy");
}

#[test]
fn a_page_that_takes_nothing_is_closed_and_holds_up_no_other() {
    let (site, held) = (LoopbackSite::new(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    raise_own_limit();
    let args = [&["--listen", "127.0.0.1:0"], &METRICS[..]].concat();
    let target = held.local_addr().expect("it listens");
    let mut sproxy = LoopbackSproxy::with(&site, target, &args, None);
    let metrics = address(&mut sproxy.program);
    let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &METRICS).attached();
    // More sessions than a page shows. The events are large: the kernel's queue is soon full.
    let count = 1100;
    // A connection that its queue has no room for is seen by the proxy alone: nobody waits for all.
    spawn(move || held.incoming().flatten().collect::<Vec<_>>());
    let applications: Vec<_> = (0..count).map(|_| dial(cproxy.listen)).collect();
    let mut events = EventReader::open(metrics);
    let state = events.wait_for("all sessions", |it| it["sums"]["sessions"] == count);
    let tunnel = &state["tunnels"][0];
    let shown = tunnel["sessions"].as_array().map(Vec::len);
    assert_eq!((shown, &tunnel["session_count"]), (Some(1000), &count.into()));
    let listed = status(&site, "sproxy", &sproxy.program);
    assert_eq!(listed["tunnels"][0]["sessions"].as_array().map(Vec::len), Some(count));
    let mut slow = dial(metrics);
    slow.write_all(b"GET /events HTTP/1.0\r\n\r\n").expect("it is connected");
    assert!(slow.peek(&mut [0]).is_ok_and(|count| count == 1), "it is answered");
    events.wait_for("the end of the slow page", |_| is_closed(&slow));
    drop(applications);
}
