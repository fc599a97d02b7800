//! The parts that all address texts share: host, port, Unix path, and the combination of host and
//! port. The error of each function is only the fault; the caller adds the text and what is
//! expected.

use std::net::{Ipv4Addr, Ipv6Addr};

use eternaltcp_proto::is_unsafe;

use super::services;

/// The fault in a text.
pub(super) type Problem = &'static str;

/// The longest DNS name in text form.
const MAX_HOST: usize = 253;
/// The longest path that fits into `sockaddr_un` with its final NUL.
const MAX_UNIX_PATH: usize = 107;

/// Splits `host:port`, or accepts `host` alone. As in ssh, any host may have brackets. A text with
/// more than one colon and no brackets is not split, because only the caller knows whether a bare
/// IPv6 address is allowed.
pub(crate) fn split_host_port(text: &str) -> Result<(&str, Option<&str>), Problem> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("only a colon and a port may follow the bracket"),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(port))),
        Some(_) if text.ends_with(':') && !text.ends_with("::") => {
            Err("leave out the colon at the end")
        }
        _ => Ok((text, None)),
    }
}

/// Removes `unix:` from the address of a Unix socket. The case of a scheme does not matter (RFC
/// 3986, section 3.1). A host of that name must be in brackets.
pub(crate) fn strip_unix(text: &str) -> Option<&str> {
    let (scheme, path) = text.split_once(':')?;
    is_unix(scheme).then_some(path)
}

fn is_unix(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("unix")
}

/// Returns whether a host before a colon and a port needs brackets: an IPv6 address, and
/// a name that would be read as the scheme of a Unix socket.
pub(crate) fn needs_brackets(host: &str) -> bool {
    host.contains(':') || is_unix(host)
}

/// Parses a port to dial: a number, or the name of a service.
pub(crate) fn parse_port(text: &str) -> Result<u16, Problem> {
    match read_port(text, "the port must be a number from 1 to 65535") {
        Ok(0) => Err("the port must be a number from 1 to 65535"),
        result => result,
    }
}

/// Parses a port to listen on; 0 lets the kernel choose.
pub(super) fn parse_listen_port(text: &str) -> Result<u16, Problem> {
    read_port(text, "the port must be a number from 0 to 65535")
}

fn read_port(text: &str, expected: Problem) -> Result<u16, Problem> {
    if text.is_empty() {
        return Err("the port is missing");
    }
    if is_digits(text) {
        return text.parse().map_err(|_| expected);
    }
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
        && text.bytes().any(|b| b.is_ascii_alphabetic());
    if is_name { services::port_of(text) } else { Err(expected) }
}

/// Returns whether a text may be a port without knowing the names of services.
pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Accepts a DNS name, a complete IPv4 address, or an IPv6 address (without brackets, with or
/// without a zone). Short and hexadecimal IPv4 forms that the C library still accepts (`127.1`,
/// `0x7f000001`) are rejected, so that a text which looks like a name is a name.
pub(crate) fn check_host(host: &str) -> Result<(), Problem> {
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.len() > MAX_HOST {
        return Err("the host is longer than 253 bytes");
    }
    if host.contains(':') {
        return check_ipv6(host);
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    check_name(host)
}

fn check_name(name: &str) -> Result<(), Problem> {
    if name.contains('@') {
        return Err(
            "a host has no user: leave out what stands before '@' (the key says who you are)",
        );
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err("a host name has letters, digits, '-', '_' and '.' only \
                    (write an international name in its xn-- form)");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.split('.').any(str::is_empty) {
        return Err("the host name has an empty part");
    }
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err("write an IPv4 address in full, as in 192.0.2.1");
    }
    Ok(())
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn check_ipv6(host: &str) -> Result<(), Problem> {
    split_zone(host).map(|_| ())
}

/// Splits an IPv6 address from its zone, if it has one (RFC 4007).
pub(super) fn split_zone(host: &str) -> Result<(Ipv6Addr, Option<&str>), Problem> {
    let (ip, zone) = match host.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (host, None),
    };
    let Ok(ip) = ip.parse() else {
        return Err("this is no IPv6 address (write [v6]:port with the brackets)");
    };
    let word = |z: &str| {
        !z.is_empty() && z.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match zone {
        Some(zone) if !word(zone) => Err("the zone after '%' must be the name of an interface"),
        zone => Ok((ip, zone)),
    }
}

/// Accepts an absolute path in its plain form: no `.`, `..` or empty part, so that one socket has
/// one path and a pattern cannot be escaped.
pub(crate) fn check_unix_path(path: &str) -> Result<(), Problem> {
    let Some(relative) = path.strip_prefix('/') else {
        return Err("the path of a Unix socket must begin with '/'");
    };
    if path.len() > MAX_UNIX_PATH {
        return Err("the path of a Unix socket is longer than 107 bytes");
    }
    if path.contains(is_unsafe) {
        return Err("the path has a control character");
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("write the path without '.', '..', '//' and a final '/'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_hosts_are_accepted() {
        let longest = ["a".repeat(63).as_str(); 4].join(".")[..253].to_owned();
        for host in [
            "a",
            "a.b.",
            "x_y-z.9a",
            "1.2.3.4",
            "::1",
            "::ffff:1.2.3.4",
            "fe80::1%eth0.5",
            &longest,
        ] {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
    }

    #[test]
    fn ambiguous_and_broken_hosts_are_refused() {
        let long = "a".repeat(254);
        for host in [
            "",
            ".",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a*",
            "é.org",
            "a\0",
            "127.1",
            "2130706433",
            "0x7f000001",
            "127.0.0.0x1",
            "127.0.0.01",
            "127.0.0.1.",
            "1.2.3.4.5",
            "::1::",
            "g::1",
            "::1%",
            "::1%a b",
            "[::1]",
            &long,
        ] {
            assert!(check_host(host).is_err(), "{host:?}");
        }
    }

    #[test]
    fn a_unix_path_has_one_spelling() {
        assert_eq!(check_unix_path("/run/x.sock"), Ok(()));
        assert_eq!(check_unix_path(&format!("/{}", "a".repeat(106))), Ok(()));
        let long = format!("/{}", "a".repeat(107));
        for path in [
            "",
            "x",
            "/",
            "//x",
            "/a/",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/..",
            "/a\nb",
            "/a\0",
            "/a\u{202e}b",
            "/\u{9b}2J",
            &long,
        ] {
            assert!(check_unix_path(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_port_is_digits_or_a_known_name() {
        assert_eq!(parse_port("65535"), Ok(65535));
        assert_eq!(parse_listen_port("0"), Ok(0));
        for port in ["", "0", "+1", "-1", " 1", "65536", "1x", "é", "no-such-service", "a/b"] {
            assert!(parse_port(port).is_err(), "{port:?}");
        }
    }
}
