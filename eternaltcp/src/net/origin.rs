//! The origin of a connection, and the PROXY protocol that reports it to a target.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::address::canonical_ip;

/// The two addresses of a connection that a proxy accepted. They are the proxy's claim, and only as
/// trustworthy as the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Origin {
    source: SocketAddr,
    destination: SocketAddr,
}

impl Origin {
    /// Returns the origin for a source and a destination. IPv4-mapped addresses become IPv4;
    /// returns `None` if the families then differ.
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        let (source, destination) = (canonical(source), canonical(destination));
        (source.is_ipv4() == destination.is_ipv4()).then_some(Self { source, destination })
    }

    /// Returns the address from which the connection came.
    pub(crate) fn source(&self) -> SocketAddr {
        self.source
    }

    /// Returns the address at which it arrived.
    pub(crate) fn destination(&self) -> SocketAddr {
        self.destination
    }
}

/// Zones and flow labels have no meaning on another machine.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source, self.destination)
    }
}

/// The text is not an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoOrigin;

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let (source, destination) = text.split_once(' ').ok_or(NoOrigin)?;
        let read = |text: &str| text.parse().map_err(|_| NoOrigin);
        Self::new(read(source)?, read(destination)?).ok_or(NoOrigin)
    }
}

/// The bytes at the start of every header.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, with the command: the proxy's own connection, or a forwarded one.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// The family of the addresses, over TCP.
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Returns a header of the PROXY protocol, version 2 (HAProxy's `proxy-protocol.txt`, section 2.2).
/// Without an origin it says `LOCAL`: every receiver must accept it and use the connection's own
/// addresses.
pub(crate) fn proxy_header(origin: Option<&Origin>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(Origin { source, destination }) = origin else {
        header.extend([LOCAL, UNSPECIFIED, 0, 0]);
        return header;
    };
    let addresses = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend([PROXY, TCP_OVER_IPV4, 0, 12]);
            [source.octets(), destination.octets()].concat()
        }
        (source, destination) => {
            header.extend([PROXY, TCP_OVER_IPV6, 0, 36]);
            [v6(source), v6(destination)].concat()
        }
    };
    header.extend(addresses);
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(source: &str, destination: &str) -> Option<Origin> {
        Origin::new(source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn an_origin_reads_as_it_was_written_and_mixed_families_are_none() {
        for (text, canonical) in [
            ("192.0.2.1:5 198.51.100.1:80", "192.0.2.1:5 198.51.100.1:80"),
            ("[::ffff:192.0.2.1]:5 198.51.100.1:80", "192.0.2.1:5 198.51.100.1:80"),
            ("[2001:db8::1]:5 [::1]:80", "[2001:db8::1]:5 [::1]:80"),
            ("[fe80::1%3]:5 [fe80::2%3]:80", "[fe80::1]:5 [fe80::2]:80"),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(origin));
        }
        for text in
            ["", " ", "192.0.2.1:5", "192.0.2.1:5 [::1]:80", "a:1 b:2", "1.2.3.4:5  6.7.8.9:1"]
        {
            assert_eq!(text.parse::<Origin>(), Err(NoOrigin), "{text:?}");
        }
    }

    #[test]
    fn a_header_is_that_of_the_specification() {
        let v4 = origin("192.0.2.1:56324", "198.51.100.7:443").unwrap();
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb";
        assert_eq!(proxy_header(Some(&v4)), expected);
        let v6 = origin("[2001:db8::1]:1", "[::1]:2").unwrap();
        let header = proxy_header(Some(&v6));
        assert_eq!(header[12..18], [0x21, 0x21, 0, 36, 0x20, 0x01]);
        assert_eq!((header.len(), &header[48..]), (52, &[0, 1, 0, 2][..]));
        assert_eq!(proxy_header(None), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
