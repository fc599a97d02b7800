//! SOCKS5 (RFC 1928) without a login: the command CONNECT.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Parsed, RefusedRequest, target};

const VERSION: u8 = 5;

/// The answer to a greeting: no login is needed.
pub(super) const NO_LOGIN: [u8; 2] = [VERSION, 0];

/// The answer to a greeting: none of the offered login methods is supported.
const NO_METHOD: [u8; 2] = [VERSION, 0xff];

const CONNECT: u8 = 1;

/// The codes of a reply (section 6).
pub(super) mod reply {
    pub(in super::super) const SUCCEEDED: u8 = 0;
    pub(in super::super) const GENERAL_FAILURE: u8 = 1;
    pub(in super::super) const NOT_ALLOWED: u8 = 2;
    pub(in super::super) const HOST_UNREACHABLE: u8 = 4;
    pub(in super::super) const REFUSED: u8 = 5;
    pub(in super::super) const TTL_EXPIRED: u8 = 6;
    pub(in super::super) const COMMAND_NOT_SUPPORTED: u8 = 7;
    pub(in super::super) const ADDRESS_NOT_SUPPORTED: u8 = 8;
}

/// Returns a reply with this code. The address at the end, from which the server is connected, is
/// not revealed: it is 0.0.0.0:0.
pub(super) const fn answer(code: u8) -> [u8; 10] {
    [VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// The result of parsing a greeting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Greeting {
    /// Incomplete.
    Partial,
    /// It offers to continue without a login; its length in bytes.
    Accepted(usize),
    /// It does not offer that.
    Refused(RefusedRequest),
}

/// Parses a greeting; its first byte is the version, 5.
pub(super) fn parse_greeting(bytes: &[u8]) -> Greeting {
    let Some(length) = bytes.get(1).map(|count| 2 + usize::from(*count)) else {
        return Greeting::Partial;
    };
    match bytes.get(2..length) {
        None => Greeting::Partial,
        Some(methods) if methods.contains(&0) => Greeting::Accepted(length),
        Some(_) => Greeting::Refused(RefusedRequest {
            say: NO_METHOD.into(),
            why: "SOCKS5: the application requires a login, but there is none".to_owned(),
        }),
    }
}

/// Parses the request that follows a greeting.
pub(super) fn parse_request(bytes: &[u8]) -> Parsed {
    let Some((&[version, command, _, kind], rest)) = bytes.split_first_chunk::<4>() else {
        return Parsed::Partial;
    };
    if version != VERSION {
        return failed(reply::GENERAL_FAILURE, format!("a request of version {version}"));
    }
    if command != CONNECT {
        let what = match command {
            2 => "BIND is not supported".to_owned(),
            3 => "UDP is not supported".to_owned(),
            command => format!("command {command} is unknown"),
        };
        return failed(reply::COMMAND_NOT_SUPPORTED, what);
    }
    let (host, rest) = match kind {
        1 => match rest.split_first_chunk::<4>() {
            Some((address, rest)) => (Ipv4Addr::from(*address).to_string(), rest),
            None => return Parsed::Partial,
        },
        4 => match rest.split_first_chunk::<16>() {
            Some((address, rest)) => (Ipv6Addr::from(*address).to_string(), rest),
            None => return Parsed::Partial,
        },
        3 => match split_counted(rest) {
            Some((name, rest)) => (String::from_utf8_lossy(name).into_owned(), rest),
            None => return Parsed::Partial,
        },
        kind => {
            return failed(
                reply::ADDRESS_NOT_SUPPORTED,
                format!("unknown kind of address: {kind}"),
            );
        }
    };
    let Some((port, rest)) = rest.split_first_chunk::<2>() else { return Parsed::Partial };
    match target(&host, u16::from_be_bytes(*port)) {
        Ok(target) => Parsed::Request(target, bytes.len() - rest.len()),
        Err(why) => failed(reply::GENERAL_FAILURE, why),
    }
}

/// Returns the bytes after a count of one byte, and the rest.
fn split_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*count))
}

fn failed(code: u8, why: impl std::fmt::Display) -> Parsed {
    Parsed::refused(answer(code), format!("SOCKS5: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> (u8, String) {
        match parse_request(bytes) {
            Parsed::Refused(refused) => (refused.say[1], refused.why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_application_that_requires_a_login_gets_an_answer() {
        assert_eq!(parse_greeting(b"\x05\x02\x01\x02"), refused_greeting());
        assert_eq!(parse_greeting(b"\x05\0"), refused_greeting());
        assert_eq!(parse_greeting(b"\x05\x03\x02\x01\0more"), Greeting::Accepted(5));
    }

    fn refused_greeting() -> Greeting {
        let why = "SOCKS5: the application requires a login, but there is none".to_owned();
        Greeting::Refused(RefusedRequest { say: vec![5, 0xff], why })
    }

    #[test]
    fn each_fault_of_a_request_has_its_code() {
        for (bytes, code, text) in [
            (&b"\x05\x02\0\x01"[..], reply::COMMAND_NOT_SUPPORTED, "BIND"),
            (b"\x05\x03\0\x01", reply::COMMAND_NOT_SUPPORTED, "UDP"),
            (b"\x05\x09\0\x01", reply::COMMAND_NOT_SUPPORTED, "command 9"),
            (b"\x05\x01\0\x02", reply::ADDRESS_NOT_SUPPORTED, "kind of address: 2"),
            (b"\x04\x01\0\x01", reply::GENERAL_FAILURE, "version 4"),
            (b"\x05\x01\0\x03\0\0\x50", reply::GENERAL_FAILURE, "the host is missing"),
            (b"\x05\x01\0\x03\x02\xff\xfe\0\x50", reply::GENERAL_FAILURE, "a host name has"),
            (b"\x05\x01\0\x03\x07unix:/x\0\x50", reply::GENERAL_FAILURE, "IPv6"),
            (b"\x05\x01\0\x01\xc0\0\x02\x07\0\0", reply::GENERAL_FAILURE, "the port must be"),
        ] {
            let (got, why) = refused(bytes);
            assert_eq!(got, code, "{why}");
            assert!(why.contains(text), "{why}");
        }
    }

    #[test]
    fn an_address_in_the_form_of_a_name_is_an_address() {
        let parsed = parse_request(b"\x05\x01\0\x03\x03::1\0\x50");
        assert_eq!(parsed, Parsed::Request("[::1]:80".parse().unwrap(), 10));
    }
}
