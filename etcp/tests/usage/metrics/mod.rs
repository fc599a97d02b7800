//! `--metrics`: scraped by Prometheus, asked for readiness, looked at, moved, and continued after a death.

mod chromium;
mod command;
mod documents;
mod events;
mod http;
mod limits;
mod look;
mod outside;
mod page;
mod prometheus;
mod several;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::operator::{control, operate};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};
use http::{address, addresses, ask, get, sample};

/// The flags of a proxy with metrics on a port of the kernel's choice.
const METRICS: [&str; 2] = ["--metrics", "127.0.0.1:0"];

/// A server in front of an echo, and its metrics.
struct MetricsFixture {
    site: LoopbackSite,
    sproxy: LoopbackSproxy,
    metrics: SocketAddr,
}

impl MetricsFixture {
    fn new() -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        let args = [&["--listen", "127.0.0.1:0"], &METRICS[..]].concat();
        let mut sproxy = LoopbackSproxy::with(&site, echo.address, &args, None);
        let metrics = address(&mut sproxy.program);
        Self { site, sproxy, metrics }
    }

    /// Starts a client with metrics, through this address, and returns both.
    fn client(&self, server: SocketAddr) -> (Cproxy, SocketAddr) {
        let key = &self.site.client;
        let mut client = Cproxy::with(&self.site, server, "cproxy", key, &METRICS).attached();
        let metrics = address(&mut client.program);
        (client, metrics)
    }
}

#[test]
fn a_proxy_is_ready_unless_it_is_draining_or_without_keys() {
    let all = MetricsFixture::new();
    let (site, server) = (&all.site, all.metrics);
    assert_eq!(get(server, "/healthz").status, 200);
    // The keys are read after the start.
    wait("the server to be ready", || get(server, "/readyz").status == 200);
    let keys = fs::read(site.authorized_keys()).expect("the site has keys");
    fs::write(site.authorized_keys(), "").expect("the folder is ours");
    wait("the server to be without keys", || get(server, "/readyz").status == 503);
    assert_eq!(get(server, "/readyz").text, "no key is admitted\n");
    fs::write(site.authorized_keys(), keys).expect("the folder is ours");
    wait("the server to have keys", || get(server, "/readyz").status == 200);

    let (cproxy, client) = all.client(all.sproxy.address);
    assert_eq!(get(client, "/readyz").text, "ready\n");
    // A session holds the drain up.
    let steady = Steady::start(cproxy.listen);
    steady.goes_on();
    for (role, program, metrics) in
        [("cproxy", &cproxy.program, client), ("sproxy", &all.sproxy.program, server)]
    {
        let said = operate(site, &["drain", "--control", &control(site, role, program)]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let told = get(metrics, "/readyz");
        assert_eq!((told.status, told.text.as_str()), (503, "draining\n"), "{role}");
        assert_eq!(get(metrics, "/healthz").status, 200);
        assert_eq!(sample(metrics, "etcp_draining"), 1.0);
        assert_eq!(sample(metrics, "etcp_ready"), 0.0);
    }
    steady.goes_on();
}

#[test]
fn only_reading_is_possible_and_only_for_those_who_call_this_machine_by_its_own_name() {
    let all = MetricsFixture::new();
    let post = ask(all.metrics, "POST /metrics", "Content-Length: 0\r\n");
    assert_eq!(post.status, 405);
    assert!(post.head.to_ascii_lowercase().contains("\r\nallow: get, head"), "{}", post.head);
    let head = ask(all.metrics, "HEAD /metrics", "");
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(get(all.metrics, "/etc/passwd").status, 404);
    assert_eq!(ask(all.metrics, "GET /metrics", "Host: evil.example\r\n").status, 403);
    assert_eq!(ask(all.metrics, "GET /metrics", "Host: localhost\r\n").status, 200);
}

#[test]
fn the_next_worker_serves_at_the_same_address_and_counts_anew() {
    let all = MetricsFixture::new();
    let (cproxy, client) = all.client(all.sproxy.address);
    let steady = Steady::start(cproxy.listen);
    steady.goes_on();
    for (program, metrics) in [(&all.sproxy.program, all.metrics), (&cproxy.program, client)] {
        let attaches = "etcp_attaches_total";
        wait("it to count an attach", || sample(metrics, attaches) >= 1.0);
        let opened = "etcp_sessions_opened_total";
        wait("it to count the session", || sample(metrics, opened) == 1.0);
        let start = sample(metrics, "process_start_time_seconds");
        program.kill_worker();
        // The same socket: a connection in between waits for the next worker.
        wait("the next worker to count", || sample(metrics, "etcp_restarts_total") == 1.0);
        assert!(sample(metrics, "process_start_time_seconds") > start);
        assert!(sample(metrics, "etcp_start_time_seconds") <= start);
        assert_eq!(sample(metrics, opened), 0.0, "the session is continued, and not opened");
        wait("it to count the next attach", || sample(metrics, attaches) >= 1.0);
        assert_eq!(sample(metrics, "etcp_sessions"), 1.0);
    }
    steady.goes_on();
}

/// Writes a server's file, and reloads it. Returns whether the reload succeeded.
fn reload(site: &LoopbackSite, program: &RunningProgram, lines: &str) -> (bool, String) {
    let text = format!("listen = '127.0.0.1:0'\ntarget = '127.0.0.1:9'\n{lines}");
    fs::write(site.path().join("sproxy.toml"), text).expect("the folder is ours");
    let said = operate(site, &["reload", "--control", &control(site, "sproxy", program)]);
    (said.code == Some(0), said.out + &said.err)
}

#[test]
fn a_reload_moves_the_metrics_and_an_address_in_use_changes_nothing() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    fs::write(&file, "listen = '127.0.0.1:0'\ntarget = '127.0.0.1:9'\n").expect("ours");
    let mut sproxy =
        LoopbackSproxy::plain(&site, &["--config", file.to_str().expect("test paths are text")]);
    let (is_done, said) = reload(&site, &sproxy.program, "metrics = '127.0.0.1:0'\n");
    assert!(is_done && said.contains("metrics: applied"), "{said}");
    let first = address(&mut sproxy.program);
    assert_eq!(get(first, "/healthz").status, 200);

    let used = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let other = used.local_addr().expect("it listens");
    let other = format!("metrics = '{other}'\n");
    let (is_done, said) = reload(&site, &sproxy.program, &other);
    assert!(!is_done && said.contains("sproxy.toml:3") && said.contains("in use"), "{said}");
    assert_eq!(get(first, "/healthz").status, 200, "the earlier address is served");

    // The next worker gets what was reloaded.
    sproxy.program.kill_worker();
    assert_eq!(get(first, "/healthz").status, 200);
    let (is_done, said) = reload(&site, &sproxy.program, "metrics = 'localhost:0'\n");
    assert!(is_done, "{said}");
    let moved = *addresses(&mut sproxy.program, 3).last().expect("it has moved");
    assert_eq!(get(moved, "/healthz").status, 200);
    assert!(TcpStream::connect(first).is_err(), "the earlier address is closed");
    let (is_done, said) = reload(&site, &sproxy.program, "");
    assert!(is_done, "{said}");
    assert!(TcpStream::connect(moved).is_err(), "metrics are off");
}

#[test]
fn a_proxy_starts_without_its_metrics_and_takes_their_address_when_it_is_free() {
    let site = LoopbackSite::new();
    let port = HeldPort::take();
    let at = format!("127.0.0.1:{}", port.number());
    let used = TcpListener::bind(&at).expect("the port is ours");
    let args = ["--listen", "127.0.0.1:0", "--metrics", &at];
    let mut sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    sproxy.program.wait_for("WARN no metrics on ");
    drop(used);
    assert_eq!(get(address(&mut sproxy.program), "/healthz").status, 200);
}
