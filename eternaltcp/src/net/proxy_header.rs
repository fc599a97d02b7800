//! The headers of the PROXY protocol with which a load balancer states who connects (HAProxy's
//! `proxy-protocol.txt`, sections 2.1 and 2.2). Pure, except for [`read_header`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::origin::SIGNATURE;

/// The maximum length of a header of version 1, with its end of line.
const MAX_V1: usize = 107;

/// The maximum length of a header of version 2. Addresses have 36 bytes at most; the rest is
/// information that is not used.
const MAX_V2: usize = 1024;

/// The length of the fixed part of version 2.
const FIXED: usize = 16;

/// The shortest header: `PROXY UNKNOWN` and the end of line.
const MIN_HEADER: usize = 15;

/// The connection begins with no valid header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    /// It begins with something else.
    #[error("it sends no PROXY header, though --proxy-from has its address")]
    Missing,
    /// The header is of another version, or does not follow the specification.
    #[error("its PROXY header cannot be read")]
    Malformed,
    /// The header is too long.
    #[error("its PROXY header is too long")]
    TooLong,
}

/// The meaning of the first bytes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HeaderFront {
    /// At least this many further bytes belong to the header.
    Needs(usize),
    /// The header is complete. It states the client's address, if there is a client.
    Complete(Option<SocketAddr>),
}

/// Reads the header, and nothing after it. Returns the client's address, or `None` if the load
/// balancer itself is the client, as with a health check.
///
/// # Errors
/// There is no valid header, or the connection fails.
pub(crate) async fn read_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::new();
    loop {
        let front =
            front(&header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let needs = match front {
            HeaderFront::Complete(client) => return Ok(client),
            HeaderFront::Needs(needs) => needs,
        };
        let known = header.len();
        header.resize(known + needs, 0);
        stream.read_exact(&mut header[known..]).await?;
    }
}

fn front(header: &[u8]) -> Result<HeaderFront, ProxyHeaderError> {
    if header.is_empty() {
        return Ok(HeaderFront::Needs(MIN_HEADER));
    }
    let is_front = |whole: &[u8]| header.iter().zip(whole).all(|(a, b)| a == b);
    if is_front(&SIGNATURE) {
        return front_of_v2(header);
    }
    if is_front(b"PROXY ") { front_of_v1(header) } else { Err(ProxyHeaderError::Missing) }
}

fn front_of_v1(header: &[u8]) -> Result<HeaderFront, ProxyHeaderError> {
    if let Some(line) = header.strip_suffix(b"\r\n") {
        let line = std::str::from_utf8(line).map_err(|_| ProxyHeaderError::Malformed)?;
        return parse_v1(line).map(HeaderFront::Complete).ok_or(ProxyHeaderError::Malformed);
    }
    if header.contains(&b'\n') {
        return Err(ProxyHeaderError::Malformed);
    }
    let end = if header.last() == Some(&b'\r') { 1 } else { 2 };
    let needs = MIN_HEADER.saturating_sub(header.len()).max(end);
    if header.len() + needs > MAX_V1 {
        Err(ProxyHeaderError::TooLong)
    } else {
        Ok(HeaderFront::Needs(needs))
    }
}

/// Returns the client's address of a line; `Some(None)` if it is unknown.
fn parse_v1(line: &str) -> Option<Option<SocketAddr>> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let fields: Vec<_> = rest.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = fields[..] else {
        return None;
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    let (source, _) = (address(source)?, address(destination)?);
    let (source_port, _) = (port(source_port)?, port(destination_port)?);
    Some(Some(SocketAddr::new(source, source_port)))
}

fn port(text: &str) -> Option<u16> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn front_of_v2(header: &[u8]) -> Result<HeaderFront, ProxyHeaderError> {
    let Some((fixed, rest)) = header.split_first_chunk::<FIXED>() else {
        return Ok(HeaderFront::Needs(FIXED - header.len()));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > MAX_V2 {
        return Err(ProxyHeaderError::TooLong);
    }
    if let missing @ 1.. = length.saturating_sub(rest.len()) {
        return Ok(HeaderFront::Needs(missing));
    }
    match command {
        0x20 => Ok(HeaderFront::Complete(None)),
        0x21 => parse_v2(family, rest).map(HeaderFront::Complete),
        _ => Err(ProxyHeaderError::Malformed),
    }
}

fn parse_v2(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let (source, port) = match family {
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, ..] = *rest else {
                return Err(ProxyHeaderError::Malformed);
            };
            (IpAddr::from([a, b, c, d]), [high, low])
        }
        0x21 => {
            let (source, rest) =
                rest.split_first_chunk::<16>().ok_or(ProxyHeaderError::Malformed)?;
            let [high, low] = *rest.get(16..18).ok_or(ProxyHeaderError::Malformed)? else {
                return Err(ProxyHeaderError::Malformed);
            };
            (IpAddr::from(*source), [high, low])
        }
        // Unspecified, or a Unix socket.
        0x00 | 0x31 => return Ok(None),
        _ => return Err(ProxyHeaderError::Malformed),
    };
    let has_all = rest.len() >= if source.is_ipv4() { 12 } else { 36 };
    let client = SocketAddr::new(source, u16::from_be_bytes(port));
    if has_all { Ok(Some(client)) } else { Err(ProxyHeaderError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header as it would arrive, with `after` behind it. Returns how many bytes were taken.
    fn read(header: &[u8], after: &[u8]) -> Result<(Option<SocketAddr>, usize), ProxyHeaderError> {
        let all = [header, after].concat();
        let mut taken = 0;
        loop {
            match front(&all[..taken])? {
                HeaderFront::Complete(client) => return Ok((client, taken)),
                HeaderFront::Needs(needs) => taken += needs,
            }
            assert!(taken <= MAX_V2, "no more than the limit is read");
            if taken > all.len() {
                return Err(ProxyHeaderError::Missing);
            }
        }
    }

    fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    fn client(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_header_is_read_to_its_end_and_no_further() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x18, 0x38];
        let v6 =
            [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0x12, 0x34, 0, 1]].concat();
        let with_more = [&v4[..], &[4, 0, 1, 9]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 6200\r\n".to_vec(), client("192.0.2.7:4660")),
            (b"PROXY TCP6 2001:db8::7 ::1 4660 6200\r\n".to_vec(), client("[2001:db8::7]:4660")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, 12, &v4), client("192.0.2.7:4660")),
            (v2(0x21, 0x11, 16, &with_more), client("192.0.2.7:4660")),
            (v2(0x21, 0x21, 36, &v6), client("[2001:db8::7]:4660")),
            (v2(0x20, 0, 0, &[]), None),
            (v2(0x20, 0x11, 12, &v4), None),
            (v2(0x21, 0, 3, &[1, 2, 3]), None),
            (v2(0x21, 0x31, 216, &[0; 216]), None),
        ] {
            // The first bytes of TLS, and bytes that look like a header's.
            for after in [&b"\x16\x03\x01"[..], b"\r\n\r\n", b""] {
                assert_eq!(read(&header, after), Ok((expected, header.len())), "{header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_rejected() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for (bytes, expected) in [
            (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaa".to_vec(),
                ProxyHeaderError::Missing,
            ),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), ProxyHeaderError::Missing),
            (b"PROXX TCP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), ProxyHeaderError::Missing),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\n\n\n\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY TCP4 ::1 ::1 1 1\r\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), ProxyHeaderError::Malformed),
            (b"PROXY TCP4 \xff 1.1.1.1 1 1\r\n".to_vec(), ProxyHeaderError::Malformed),
            (long.into_bytes(), ProxyHeaderError::TooLong),
            (v2(0x11, 0x11, 12, &[0; 12]), ProxyHeaderError::Malformed),
            (v2(0x22, 0x11, 12, &[0; 12]), ProxyHeaderError::Malformed),
            (v2(0x21, 0x12, 12, &[0; 12]), ProxyHeaderError::Malformed),
            (v2(0x21, 0x11, 11, &[0; 11]), ProxyHeaderError::Malformed),
            (v2(0x21, 0x21, 35, &[0; 35]), ProxyHeaderError::Malformed),
            (v2(0x21, 0x11, 1009, &[0; 1009]), ProxyHeaderError::TooLong),
            (v2(0x21, 0x11, u16::MAX, &[]), ProxyHeaderError::TooLong),
        ] {
            assert_eq!(read(&bytes, b""), Err(expected), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
