//! The metrics and the page at an address that other machines reach.

use std::net::SocketAddr;

use etcp_testkit::keys::Keys;
use etcp_testkit::pair::etcp;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{Launch, TestFolder, TestWorld, skip};
use serde_json::Value;

use super::events::EventReader;
use super::http::ask;

/// The port of the metrics.
const PORT: u16 = 9163;

/// Returns the first state with a tunnel that a page at this address is shown.
fn state(address: SocketAddr) -> Value {
    EventReader::open(address).wait_for("a tunnel", |it| it["tunnels"][0].is_object())
}

#[test]
fn whoever_comes_from_outside_sees_no_names_and_a_foreign_name_leads_to_no_loopback() {
    if !skip::can_run("metrics::outside", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let server = world.server_v4().to_string();
    let keys = Keys::generate(&folder, &[format!("[{server}]:{CARRIER_PORT}")]);
    let program = folder.program("etcp", &etcp());
    let mut sproxy = Launch::new("sproxy", &program)
        .args(["sproxy", "--listen", &format!("[::]:{CARRIER_PORT}"), "--target", "127.0.0.1:9"])
        .args(["--metrics", &format!("*:{PORT}"), "--identity"])
        .arg(&keys.server)
        .arg("--authorized-keys")
        .arg(&keys.authorized_keys)
        .env("HOME", folder.path())
        .start(&world.server, &folder);
    sproxy.wait_for("listening on", PATIENCE);
    let mut cproxy = Launch::new("cproxy", &program)
        .args(["cproxy", "--server", &server, "--no-ssh-config", "--identity"])
        .arg(&keys.client)
        .arg("--known-hosts")
        .arg(&keys.known_hosts)
        .env("HOME", folder.path())
        .start(&world.client, &folder);
    cproxy.wait_for("attached", PATIENCE);

    let outside = SocketAddr::new(world.server_v4(), PORT);
    let inside = SocketAddr::from(([127, 0, 0, 1], PORT));
    let foreign = |at, path: &str| ask(at, &format!("GET {path}"), "Host: evil.example\r\n").status;
    // Another machine, and the server itself by the same address.
    for namespace in [&world.client, &world.server] {
        let seen = namespace.run(|| state(outside));
        assert_eq!((&seen["has_names"], &seen["host"]), (&false.into(), &"".into()), "{seen}");
        let text = seen.to_string();
        for secret in ["SHA256:", "client-key", "10.71."] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        // A name of the monitoring's own choice leads there, such as that of a load balancer.
        for path in ["/", "/metrics", "/healthz"] {
            assert_eq!(namespace.run(|| foreign(outside, path)), 200, "{path}");
        }
    }
    let seen = world.server.run(|| state(inside));
    assert!(seen["has_names"] == true && seen.to_string().contains("SHA256:"), "{seen}");
    for path in ["/", "/events", "/metrics", "/healthz"] {
        assert_eq!(world.server.run(|| foreign(inside, path)), 403, "{path}");
    }
}
