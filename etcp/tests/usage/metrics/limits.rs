//! Clients that are slow, many or large.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};

use super::http::{ask, get};
use super::{METRICS, MetricsFixture};

#[test]
fn silent_clients_use_up_nothing_and_are_sent_away() {
    let all = MetricsFixture::new();
    let (cproxy, _) = all.client(all.sproxy.address);
    let steady = Steady::start(cproxy.listen);
    let before = all.sproxy.program.descriptors();
    // Some say nothing, and some begin a request that never ends.
    let silent: Vec<_> = (0..40)
        .map(|number| {
            let mut stream = dial(all.metrics);
            if number % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").expect("it is connected");
            }
            stream
        })
        .collect();
    // The server has some descriptors for a moment, such as that of its file of keys.
    assert!(all.sproxy.program.descriptors() <= before + 8 + 8, "the others wait in the kernel");
    steady.goes_on();
    // Each group of eight is sent away after some seconds.
    assert_eq!(get(all.metrics, "/healthz").status, 200);
    for mut stream in silent {
        let mut rest = Vec::new();
        // It may be a reset, if the request was not read.
        let _ = stream.read_to_end(&mut rest);
        let is_told = rest.is_empty() || rest.starts_with(b"HTTP/1.1 408");
        assert!(is_told, "{}", String::from_utf8_lossy(&rest));
    }
    steady.goes_on();
}

#[test]
fn a_request_has_a_maximum_length_and_number_of_headers() {
    let all = MetricsFixture::new();
    let (many, long) = ("X: 1\r\n".repeat(65), format!("X: {}\r\n", "x".repeat(20_000)));
    for headers in [many, long] {
        assert_eq!(ask(all.metrics, "GET /metrics", &headers).status, 431);
    }
    assert_eq!(get(all.metrics, "/healthz").status, 200);
}

#[test]
fn metrics_at_a_path_are_for_this_user_alone() {
    let site = LoopbackSite::new();
    let path = site.path().join("metrics.sock");
    let at = format!("unix:{}", path.display());
    let args = ["--listen", "127.0.0.1:0", "--metrics", &at];
    let mut sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    sproxy.program.wait_for("INFO metrics on ");
    let mode = path.metadata().expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    sproxy.program.kill_worker();
    let mut stream = UnixStream::connect(&path).expect("the next worker listens");
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("it is connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains(" 200 OK") && answer.ends_with("\r\nok\n"), "{answer}");
}

#[test]
fn a_client_without_a_tunnel_is_not_ready() {
    let (site, port) = (LoopbackSite::new(), HeldPort::take());
    // Nothing listens there, so it tries again and again.
    let server = ([127, 0, 0, 1], port.number()).into();
    let mut client = Cproxy::with(&site, server, "lonely", &site.client, &METRICS);
    let metrics = super::http::address(&mut client.program);
    let told = get(metrics, "/readyz");
    assert_eq!((told.status, told.text.as_str()), (503, "there is no tunnel yet\n"));
}
