//! Reports packets of the program that cannot be forwarded. The kernel reports them
//! (nfnetlink_log), and a log line names the destination.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use tracing::{debug, warn};

/// The number of the netfilter log group in the program's namespace.
pub(super) const GROUP: u16 = 1;

/// The maximum number of destinations that get a log line each; further ones are not reported.
const MAX_DESTINATIONS: usize = 100;

/// The number of bytes of each packet that are copied: an IP header and the ports.
const COPIED: u32 = 64;

/// Constants of linux/netlink.h, linux/netfilter/nfnetlink.h and nfnetlink_log.h.
mod wire {
    pub(super) const HEADER: usize = 16;
    pub(super) const FAMILY_HEADER: usize = 4;
    pub(super) const ATTRIBUTE_HEADER: usize = 4;
    pub(super) const ERROR: u16 = 2;
    pub(super) const PACKET: u16 = 4 << 8;
    pub(super) const CONFIG: u16 = 4 << 8 | 1;
    pub(super) const REQUEST_AND_ACK: u16 = 1 | 4;
    pub(super) const CFG_CMD: u16 = 1;
    pub(super) const CFG_MODE: u16 = 2;
    pub(super) const CMD_BIND: u8 = 1;
    pub(super) const COPY_PACKET: u8 = 2;
    pub(super) const PAYLOAD: u16 = 9;
}

/// Makes the kernel send this namespace's log to a new socket.
///
/// # Errors
/// The kernel has no such log.
pub(super) fn open_log() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    configure(&socket, wire::CFG_CMD, &[wire::CMD_BIND])?;
    let [a, b, c, d] = COPIED.to_be_bytes();
    configure(&socket, wire::CFG_MODE, &[a, b, c, d, wire::COPY_PACKET, 0])?;
    Ok(socket)
}

/// Sends one setting, and waits for its acknowledgement.
fn configure(socket: &OwnedFd, attribute: u16, value: &[u8]) -> io::Result<()> {
    let [high, low] = GROUP.to_be_bytes();
    let mut message = vec![0; wire::HEADER];
    message.extend([0, 0, high, low]);
    let length = u16::try_from(wire::ATTRIBUTE_HEADER + value.len()).map_err(io::Error::other)?;
    message.extend(length.to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&wire::CONFIG.to_ne_bytes());
    message[6..8].copy_from_slice(&wire::REQUEST_AND_ACK.to_ne_bytes());
    send(socket, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, length) = recv(socket, &mut answer, RecvFlags::empty())?;
    let code = answer
        .get(wire::HEADER..wire::HEADER + 4)
        .filter(|_| length >= wire::HEADER + 4 && answer[4..6] == wire::ERROR.to_ne_bytes());
    match code {
        Some([0, 0, 0, 0]) => Ok(()),
        Some(code) => {
            let code = code.try_into().map(i32::from_ne_bytes).unwrap_or(0);
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        None => Err(io::Error::other("nfnetlink_log does not answer")),
    }
}

/// Logs once for each destination that it is not forwarded. A thread of its own waits for the
/// kernel, and ends with the process.
pub(super) fn log_refused(log: &OwnedFd) {
    let (mut logged, mut buffer) = (HashSet::new(), vec![0; 64 * 1024]);
    while logged.len() < MAX_DESTINATIONS {
        let length = match recv(log, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, length)) => length.min(buffer.len()),
            // Some reports were lost: their senders try again.
            Err(Errno::NOBUFS | Errno::INTR) => continue,
            Err(error) => return debug!("the kernel no longer reports what is refused: {error}"),
        };
        for refused in read(&buffer[..length]) {
            if logged.insert(refused) {
                warn!("{refused} is not forwarded and fails at once: only TCP and DNS are");
            }
        }
    }
    warn!("further destinations that are not forwarded are not logged");
}

/// A refused packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct RefusedPacket {
    protocol: u8,
    to: IpAddr,
    /// Only for protocols that have ports.
    port: Option<u16>,
}

impl fmt::Display for RefusedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            1 | 58 => f.write_str("ping (ICMP)")?,
            17 => f.write_str("UDP")?,
            132 => f.write_str("SCTP")?,
            number => write!(f, "IP protocol {number}")?,
        }
        match self.port {
            Some(port) => write!(f, " to {}", SocketAddr::new(self.to, port)),
            None => write!(f, " to {}", self.to),
        }
    }
}

/// Returns the packets that netlink messages report.
fn read(mut messages: &[u8]) -> Vec<RefusedPacket> {
    let mut found = Vec::new();
    while let Some((kind, body, rest)) = next_message(messages) {
        if kind == wire::PACKET {
            let mut attributes = body.get(wire::FAMILY_HEADER..).unwrap_or_default();
            while let Some((attribute, value, rest)) = next_attribute(attributes) {
                if attribute == wire::PAYLOAD {
                    found.extend(read_packet(value));
                }
                attributes = rest;
            }
        }
        messages = rest;
    }
    found
}

/// Returns a message's type, its contents, and the bytes that follow it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    Some((kind, bytes.get(wire::HEADER..length)?, behind(bytes, length)))
}

/// Returns an attribute's type, its contents, and the bytes that follow it.
fn next_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
    Some((kind, bytes.get(wire::ATTRIBUTE_HEADER..length)?, behind(bytes, length)))
}

/// Returns the bytes after `length`. Everything is aligned to four bytes, except that the last item
/// may lack its padding.
fn behind(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(length.next_multiple_of(4)..).unwrap_or_default()
}

/// Parses the beginning of an IPv4 packet (RFC 791) or an IPv6 packet (RFC 8200).
fn read_packet(packet: &[u8]) -> Option<RefusedPacket> {
    let (protocol, to, header): (u8, IpAddr, usize) = match packet.first()? >> 4 {
        4 => {
            let to: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            (*packet.get(9)?, Ipv4Addr::from(to).into(), usize::from(packet[0] & 0xf) * 4)
        }
        6 => {
            let to: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            (*packet.get(6)?, Ipv6Addr::from(to).into(), 40)
        }
        _ => return None,
    };
    let ports = packet.get(header + 2..).and_then(|bytes| bytes.first_chunk());
    let has_ports = matches!(protocol, 17 | 132 | 136);
    Some(RefusedPacket {
        protocol,
        to,
        port: ports.filter(|_| has_ports).map(|port| u16::from_be_bytes(*port)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two messages of a kernel: UDP to 93.184.216.34:443 and to [2001:db8::1]:443.
    const MESSAGES: &str = "\
        6400000000040000000000000000000002000001080001000800030005000a00000000000800050000000001\
        08000b000000000008000e000000000025000900450000210389400040113b55c61200015db8d822d6d701bb\
        000dfc0c68656c6c6f000000\
        780000000004000000000000000000000a0000010800010086dd030005000a00000000000800050000000001\
        08000b000000000008000e0000000000390009006008ee59000d1140fd657463007000000000000000000001\
        20010db8000000000000000000000001a13901bb000da01268656c6c6f000000";

    fn messages() -> Vec<u8> {
        let digits: Vec<u8> =
            MESSAGES.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn a_message_of_the_kernel_is_parsed() {
        let shown: Vec<_> = read(&messages()).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["UDP to 93.184.216.34:443", "UDP to [2001:db8::1]:443"]);
    }

    #[test]
    fn truncated_or_changed_messages_are_parsed_without_harm() {
        let whole = messages();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).len() <= 2);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 4, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                assert!(read(&changed).len() <= whole.len());
            }
        }
    }
}
