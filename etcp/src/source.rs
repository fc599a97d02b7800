//! The address of this machine that connections are from, as `-b` and ssh's `BindAddress` name it.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;

use eternaltcp_sys::interface_index;
use rustix::net::netdevice::index_to_name;

/// An address of this machine, with its interface if the address has a zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SourceAddress {
    pub(crate) ip: IpAddr,
    pub(crate) interface: Option<String>,
}

impl FromStr for SourceAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, interface: None });
        }
        let zoned = text.split_once('%').and_then(|(ip, zone)| Some((ip.parse().ok()?, zone)));
        let Some((ip, zone)) = zoned else {
            return Err("write an address of this machine, as 192.0.2.7 or fe80::1%eth0".to_owned());
        };
        Ok(Self { ip: IpAddr::V6(ip), interface: Some(interface(zone)?) })
    }
}

impl SourceAddress {
    /// Returns the address to bind a socket to, with any port.
    pub(crate) fn address(&self) -> SocketAddr {
        match (self.ip, &self.interface) {
            // If there is no such interface, connecting fails with that reason.
            (IpAddr::V6(ip), Some(name)) => {
                SocketAddrV6::new(ip, 0, 0, interface_index(name).unwrap_or(0)).into()
            }
            (ip, _) => SocketAddr::new(ip, 0),
        }
    }
}

/// Returns the name of an interface, given its name or number (RFC 4007).
fn interface(zone: &str) -> Result<String, String> {
    let Ok(index) = zone.parse() else { return parse_interface(zone) };
    // Any socket will do for the question (netdevice(7)).
    let name = UnixDatagram::unbound().and_then(|socket| Ok(index_to_name(&socket, index)?));
    name.map_err(|_| format!("there is no interface {zone}"))
}

/// Parses a name that an interface of Linux can have.
pub(crate) fn parse_interface(text: &str) -> Result<String, String> {
    let is_name = (1..=15).contains(&text.len())
        && !text.contains(|c: char| c.is_whitespace() || c == '/' || c == ':');
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("an interface has a name such as wlan0".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_the_zone_that_it_is_in() {
        let source = |text: &str| text.parse::<SourceAddress>();
        let of = |ip: &str, interface: Option<&str>| {
            Ok(SourceAddress { ip: ip.parse().unwrap(), interface: interface.map(str::to_owned) })
        };
        assert_eq!(source("192.0.2.7"), of("192.0.2.7", None));
        assert_eq!(source("2001:db8::1"), of("2001:db8::1", None));
        // An interface that does not exist yet may appear later.
        assert_eq!(source("fe80::1%usb0"), of("fe80::1", Some("usb0")));
        assert_eq!(source("fe80::1%1"), of("fe80::1", Some("lo")));
        for odd in ["", "myhost", "192.0.2.7%lo", "fe80::1%", "fe80::1%a b", "fe80::1%999999"] {
            assert!(source(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_socket_is_bound_within_the_zone() {
        let address = |text: &str| text.parse::<SourceAddress>().unwrap().address().to_string();
        assert_eq!(address("192.0.2.7"), "192.0.2.7:0");
        assert_eq!(address("fe80::1%lo"), "[fe80::1%1]:0");
        assert_eq!(address("fe80::1%no-such"), "[fe80::1]:0");
    }
}
