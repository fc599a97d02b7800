//! The resolvers that this machine uses (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The system's configuration file.
const FILE: &str = "/etc/resolv.conf";

/// The system does not query further ones either (`MAXNS`).
const MAX: usize = 3;

const PORT: u16 = 53;

/// Returns this machine's resolvers in the order of the current file; there is at least one.
pub(super) async fn resolvers() -> Vec<SocketAddr> {
    // Without the file the system queries this machine itself.
    parse(
        &tokio::task::spawn_blocking(|| std::fs::read(FILE))
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or_default(),
    )
}

/// Parses the file. Lines that cannot be parsed are ignored, as the system does.
fn parse(file: &[u8]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(file);
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse::<IpAddr>().ok()
    });
    let mut found: Vec<_> =
        addresses.take(MAX).map(|address| SocketAddr::new(address, PORT)).collect();
    if found.is_empty() {
        found.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &[u8]) -> Vec<String> {
        parse(file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_three_nameservers_are_found_and_the_default_is_this_machine() {
        let file = b"# nameserver 192.0.2.9\nsearch example\n nameserver\t192.0.2.1 # one\n\
            nameserver 2001:db8::1\nnameserver x\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        assert_eq!(shown(file), ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
        for file in [&b""[..], b"nameserver", b"nameservers 192.0.2.1", b"\xff\nnameserver\n"] {
            assert_eq!(shown(file), ["127.0.0.1:53"]);
        }
    }
}
