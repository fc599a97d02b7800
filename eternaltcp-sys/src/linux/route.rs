//! Checks whether a route exists, with one request to rtnetlink (rtnetlink(7)).
//!
//! Connecting a UDP socket that is bound to an interface does not answer this: for IPv4, Linux then
//! treats every address as one on that link.

use std::io;
use std::net::IpAddr;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::network::NETLINK_ROUTE;

/// Constants of linux/netlink.h and linux/rtnetlink.h.
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;

/// Requests the entry of the routing table, and no answer without one.
const RTM_F_FIB_MATCH: u32 = 0x2000;

/// The headers of a message and of a route, in bytes.
const HEADER: usize = 16;

/// Returns whether the routing tables lead from `source` over the interface with this index to
/// `to`. Both addresses must have the same family. Sends no packet.
///
/// # Errors
/// Netlink cannot be used, or its answer cannot be parsed.
pub fn has_route(to: IpAddr, source: IpAddr, interface: u32) -> io::Result<bool> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, NETLINK_ROUTE)?;
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    send(&socket, &request(to, source, interface), SendFlags::empty())?;
    let mut answer = [0_u8; 4096];
    // The kernel has answered before send(2) returns.
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    parse(&answer[..length.min(answer.len())])
}

/// Returns whether the answer is a route rather than an error.
fn parse(answer: &[u8]) -> io::Result<bool> {
    match answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]])) {
        Some(RTM_NEWROUTE) => Ok(true),
        Some(NLMSG_ERROR) => Ok(false),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn request(to: IpAddr, source: IpAddr, interface: u32) -> Vec<u8> {
    let (family, bits) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, 32),
        IpAddr::V6(_) => (AddressFamily::INET6, 128),
    };
    let family = family.as_raw() as u8;
    let mut message = vec![0; HEADER];
    // struct rtmsg: family, lengths of both addresses, five bytes that are left zero.
    message.extend([family, bits, bits, 0, 0, 0, 0, 0]);
    message.extend(RTM_F_FIB_MATCH.to_ne_bytes());
    for (kind, address) in [(RTA_DST, to), (RTA_SRC, source)] {
        match address {
            IpAddr::V4(address) => attribute(&mut message, kind, &address.octets()),
            IpAddr::V6(address) => attribute(&mut message, kind, &address.octets()),
        }
    }
    attribute(&mut message, RTA_OIF, &interface.to_ne_bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETROUTE.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message
}

/// Appends an attribute. The length of every value here is a multiple of four, so no padding is
/// needed.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((value.len() as u16 + 4).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testnet::{Net, ip, link};

    fn index(name: &str) -> u32 {
        let all = if_addrs::get_if_addrs().unwrap();
        all.into_iter().find(|found| found.name == name).and_then(|found| found.index).unwrap()
    }

    #[test]
    fn a_route_is_one_of_the_tables_and_of_the_interface() {
        let Some(net) = Net::new("a_route_is_one_of_the_tables_and_of_the_interface") else {
            return;
        };
        net.run(|_| {
            for n in 1..=2 {
                link(&format!("d{n}"));
                ip(&format!("addr add 10.0.{n}.2/24 dev d{n}"));
                ip(&format!("-6 addr add fd00:{n}::2/64 dev d{n} nodad"));
            }
            let far = "198.51.100.1".parse().unwrap();
            let far6 = "2001:db8::1".parse().unwrap();
            let (one, two) = ("10.0.1.2".parse().unwrap(), "10.0.2.2".parse().unwrap());
            let one6 = "fd00:1::2".parse().unwrap();
            assert!(!has_route(far, one, index("d1")).unwrap());
            assert!(!has_route(far6, one6, index("d1")).unwrap());
            ip("route add default via 10.0.1.1");
            ip("-6 route add default via fd00:1::1");
            assert!(has_route(far, one, index("d1")).unwrap());
            assert!(has_route(far6, one6, index("d1")).unwrap());
            assert!(!has_route(far, two, index("d2")).unwrap());
            ip("route add default via 10.0.2.1 metric 100");
            assert!(has_route(far, two, index("d2")).unwrap());
            ip("route del default via 10.0.2.1 metric 100");
            ip("rule add from 10.0.2.0/24 lookup 102");
            ip("route add default via 10.0.2.1 table 102");
            assert!(has_route(far, two, index("d2")).unwrap());
        });
    }

    #[test]
    fn an_invalid_answer_is_an_error() {
        assert!(parse(&[]).is_err());
        assert!(parse(&[0; 16]).is_err());
    }
}
