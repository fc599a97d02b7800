//! The client's part of SOCKS5 (RFC 1928, RFC 1929) and SOCKS4a.

use std::net::{IpAddr, Ipv4Addr};

use zeroize::Zeroizing;

use super::{ProxyCredentials, ProxyRefusal};

const VERSION_5: u8 = 5;
const VERSION_4: u8 = 4;
const CONNECT: u8 = 1;
/// The version of a login.
const LOGIN: u8 = 1;

/// The step that a SOCKS5 server requires before a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    None,
    Password,
}

/// Returns the greeting with the supported login methods.
pub(super) fn greeting(has_login: bool) -> Vec<u8> {
    if has_login { vec![VERSION_5, 2, 0, 2] } else { vec![VERSION_5, 1, 0] }
}

/// Parses the method that the server chose.
pub(super) fn method([version, method]: [u8; 2], has_login: bool) -> Result<Method, ProxyRefusal> {
    match (version, method) {
        (VERSION_5, 0) => Ok(Method::None),
        (VERSION_5, 2) if has_login => Ok(Method::Password),
        (VERSION_5, _) if has_login => Err(ProxyRefusal::answered(
            "it does not accept a login by user and password".to_owned(),
        )),
        (VERSION_5, _) => Err(ProxyRefusal::answered(
            "it wants a login: write USER:PASSWORD@ before its name".to_owned(),
        )),
        (b'H', b'T') => {
            Err(ProxyRefusal::answered("it is an HTTP proxy: write http://".to_owned()))
        }
        _ => Err(ProxyRefusal::answered(
            "its answer is not SOCKS5: if it is an HTTP proxy, write http://".to_owned(),
        )),
    }
}

/// Returns the login.
pub(super) fn login(login: &ProxyCredentials) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(3 + 2 * 255));
    bytes.push(LOGIN);
    put_counted(&mut bytes, login.user.as_bytes());
    put_counted(&mut bytes, login.password.as_bytes());
    bytes
}

/// Parses the result of the login.
pub(super) fn logged_in([_, status]: [u8; 2]) -> Result<(), ProxyRefusal> {
    match status {
        0 => Ok(()),
        _ => Err(ProxyRefusal::answered("it rejects the user or the password".to_owned())),
    }
}

/// Returns the request for a connection to a host that is an address, or else a name.
pub(super) fn request(host: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![VERSION_5, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            bytes.push(1);
            bytes.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            bytes.push(4);
            bytes.extend(address.octets());
        }
        Err(_) => {
            bytes.push(3);
            put_counted(&mut bytes, host.as_bytes());
        }
    }
    bytes.extend(port.to_be_bytes());
    bytes
}

/// Parses the start of the answer: how many bytes of an address and a port follow. For a name, the
/// first of the five bytes is its length.
pub(super) fn reply(
    [version, code, _, kind, first]: [u8; 5],
    target: &str,
) -> Result<usize, ProxyRefusal> {
    if version != VERSION_5 {
        return Err(ProxyRefusal::answered("its answer is not SOCKS5".to_owned()));
    }
    let unreachable = || format!("it cannot reach {target}");
    let why = match code {
        0 => {
            return match kind {
                1 => Ok(4 - 1 + 2),
                4 => Ok(16 - 1 + 2),
                3 => Ok(usize::from(first) + 2),
                _ => Err(ProxyRefusal::answered(
                    "its answer has an unknown kind of address".to_owned(),
                )),
            };
        }
        2 => format!(
            "its rules do not permit connections to {target}: ask its operator to permit that"
        ),
        3 => format!("{}: the network is unreachable", unreachable()),
        4 => format!("{}: the host is unreachable, or its name is wrong", unreachable()),
        5 => format!("{}: connection refused; is sproxy running there?", unreachable()),
        6 => format!("{}: it does not answer", unreachable()),
        7 => "it does not support CONNECT".to_owned(),
        8 => format!("it does not support addresses like {target}: try socks5h://"),
        _ => format!("{}, and does not say why", unreachable()),
    };
    Err(ProxyRefusal::answered(format!("{why} (SOCKS5 code {code})")))
}

/// Returns the request of SOCKS4: an IPv4 address, or for 4a a name.
pub(super) fn request_4(
    host: &str,
    port: u16,
    login: Option<&ProxyCredentials>,
) -> Result<Vec<u8>, ProxyRefusal> {
    let mut bytes = vec![VERSION_4, CONNECT];
    bytes.extend(port.to_be_bytes());
    let address = host.parse::<IpAddr>();
    let octets = match address {
        Ok(IpAddr::V4(address)) => address.octets(),
        Ok(IpAddr::V6(_)) => {
            let why = "SOCKS4 has no IPv6: use socks5h://, or a name";
            return Err(ProxyRefusal::answered(why.to_owned()));
        }
        // This is not an address: the name follows.
        Err(_) => Ipv4Addr::new(0, 0, 0, 1).octets(),
    };
    bytes.extend(octets);
    bytes.extend(login.map_or("", |login| &login.user).bytes());
    bytes.push(0);
    if address.is_err() {
        bytes.extend(host.bytes());
        bytes.push(0);
    }
    Ok(bytes)
}

/// Parses the answer of SOCKS4.
pub(super) fn reply_4(bytes: [u8; 8], target: &str) -> Result<(), ProxyRefusal> {
    match bytes[..2] {
        [0, 90] => Ok(()),
        [0, code @ 91] => Err(ProxyRefusal::answered(format!(
            "it cannot reach {target}, or does not permit it (SOCKS4 code {code})"
        ))),
        [0, code @ 92..=93] => {
            Err(ProxyRefusal::answered(format!("it rejects the user (SOCKS4 code {code})")))
        }
        _ => Err(ProxyRefusal::answered("its answer is not SOCKS4".to_owned())),
    }
}

fn put_counted(to: &mut Vec<u8>, bytes: &[u8]) {
    // Names have at most 253 bytes, and logins 255.
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    to.push(length);
    to.extend_from_slice(&bytes[..usize::from(length)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_standards() {
        assert_eq!(request("a.b", 6200), b"\x05\x01\0\x03\x03a.b\x18\x38");
        assert_eq!(request("192.0.2.1", 80), b"\x05\x01\0\x01\xc0\0\x02\x01\0\x50");
        assert_eq!(request("::1", 80)[..5], *b"\x05\x01\0\x04\0");
        let me = ProxyCredentials { user: "me".into(), password: Zeroizing::new("pw".into()) };
        assert_eq!(*login(&me), b"\x01\x02me\x02pw");
        assert_eq!(request_4("192.0.2.1", 80, None).unwrap(), b"\x04\x01\0\x50\xc0\0\x02\x01\0");
        assert_eq!(request_4("a.b", 80, Some(&me)).unwrap(), b"\x04\x01\0\x50\0\0\0\x01me\0a.b\0");
        assert!(request_4("::1", 80, None).is_err());
    }

    #[test]
    fn each_code_says_what_to_do() {
        for (code, part) in [
            (1, "cannot reach a:1"),
            (2, "rules do not permit connections to a:1"),
            (3, "the network is unreachable"),
            (4, "its name is wrong"),
            (5, "is sproxy running there?"),
            (6, "does not answer"),
            (7, "does not support"),
            (8, "try socks5h://"),
            (200, "does not say why"),
        ] {
            let why = reply([5, code, 0, 1, 0], "a:1").unwrap_err().to_string();
            assert!(why.contains(part) && why.contains(&format!("SOCKS5 code {code}")), "{why}");
        }
        assert_eq!(reply([5, 0, 0, 1, 9], "a:1").unwrap(), 5);
        assert_eq!(reply([5, 0, 0, 4, 9], "a:1").unwrap(), 17);
        assert_eq!(reply([5, 0, 0, 3, 255], "a:1").unwrap(), 257);
        assert!(reply([5, 0, 0, 9, 0], "a:1").is_err() && reply([4, 0, 0, 1, 0], "a:1").is_err());
        assert!(method([5, 255], false).unwrap_err().to_string().contains("wants a login"));
        assert!(method([5, 2], false).is_err() && method([5, 2], true) == Ok(Method::Password));
        assert!(method(*b"HT", true).unwrap_err().to_string().contains("write http://"));
        assert!(logged_in([1, 1]).is_err() && logged_in([1, 0]).is_ok());
        assert!(reply_4([0, 90, 0, 0, 0, 0, 0, 0], "a:1").is_ok());
        for code in [0, 91, 92, 93] {
            assert!(reply_4([0, code, 0, 0, 0, 0, 0, 0], "a:1").is_err());
        }
    }
}
