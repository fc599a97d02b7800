//! `--proxy-from`: load balancers state who connects.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use etcp_testkit::loopback::operator::status;
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 6200\r\n";

/// A header of version 2 with the client 192.0.2.8:4660.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x0a\0\0\x01\x12\x34\x18\x38";

/// Runs a load balancer that begins each connection to `server` with these bytes.
fn balancer(server: SocketAddr, header: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it listens");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(mut server) = TcpStream::connect(server) else { continue };
            // It may be closed already.
            let _ = server.write_all(header);
            let both = (client.try_clone(), server.try_clone());
            let (Ok(from_client), Ok(to_client)) = (both.0, both.1) else { continue };
            for (from, to) in [(from_client, server), (to_client, client)] {
                std::thread::spawn(move || {
                    // The end of either direction ends both.
                    let _ = io::copy(&mut &from, &mut &to);
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    address
}

fn start(site: &LoopbackSite, args: &[&str]) -> LoopbackSproxy {
    let args = [&["--listen", "127.0.0.1:0"], args].concat();
    LoopbackSproxy::with(site, Echo::start().address, &args, None)
}

#[test]
fn the_client_is_at_the_address_of_the_header() {
    let site = LoopbackSite::new();
    let line = format!("from=\"192.0.2.0/24\" {}", site.client.line);
    site.admit(&[&line]);
    let sproxy = start(&site, &["--proxy-from", "127.0.0.0/8"]);
    for (name, header, from) in [("v1", V1, "192.0.2.7"), ("v2", V2, "192.0.2.8")] {
        let client = Cproxy::start(&site, balancer(sproxy.address, header), name).attached();
        Steady::start(client.listen).finish();
        let shown = status(&site, "sproxy", &sproxy.program)["tunnels"].to_string();
        assert!(shown.contains(from), "{shown}");
        assert!(sproxy.program.log().contains(&format!("peer={from}")), "{}", sproxy.program.log());
    }
}

#[test]
fn a_connection_from_a_load_balancer_without_a_header_is_closed() {
    let site = LoopbackSite::new();
    let mut sproxy = start(&site, &["--proxy-from", "127.0.0.1"]);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaa";
    for bytes in [&hello[..], b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 a b 1 2\r\n"] {
        let mut stream = dial(sproxy.address);
        stream.write_all(bytes).expect("it is open");
        let mut rest = Vec::new();
        // A reset is as good an end.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
    }
    sproxy.program.wait_for("sends no PROXY header");
    sproxy.program.wait_for("cannot be read");
    // It is no offence of the load balancer.
    let client = Cproxy::start(&site, balancer(sproxy.address, V1), "client").attached();
    Steady::start(client.listen).finish();
}

#[test]
fn a_header_from_elsewhere_is_no_header() {
    let site = LoopbackSite::new();
    let sproxy = start(&site, &["-v", "-v", "--proxy-from", "192.0.2.1"]);
    let mut client = Cproxy::start(&site, balancer(sproxy.address, V2), "client");
    client.program.wait_for("trying");
    wait("the server to refuse it", || sproxy.program.count("not TLS") > 0);
    assert_eq!(sproxy.program.count("tunnel made"), 0);
}
