//! SOCKS4 (Ying-Da Lee, "SOCKS: A protocol for TCP proxy across firewalls")
//! and its extension SOCKS4a, whose names are resolved by the proxy.

use std::net::Ipv4Addr;

use super::{Parsed, target};

/// The maximum number of bytes of the user and of the host, without their NUL.
const MAX_TEXT: usize = 255;

/// The length of version, command, port and address.
const FIXED: usize = 8;

const CONNECT: u8 = 1;

/// The request is granted: the target is connected.
pub(super) const GRANTED: [u8; 8] = [0, 90, 0, 0, 0, 0, 0, 0];

/// The request is rejected or has failed; SOCKS4 has no reasons.
pub(super) const REJECTED: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

/// Parses a request; its first byte is the version, 4.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some((&[_, command, port_high, port_low, a, b, c, d], rest)) =
        bytes.split_first_chunk::<FIXED>()
    else {
        return Parsed::Partial;
    };
    if command != CONNECT {
        return Parsed::refused(REJECTED, format!("SOCKS4 command {command} is not supported"));
    }
    let (user, after) = match text(rest) {
        Ok(split) => split,
        Err(parsed) => return parsed,
    };
    let mut length = FIXED + user.len() + 1;
    // 0.0.0.x means that a name follows.
    let is_named = [a, b, c] == [0; 3] && d != 0;
    let host = if is_named {
        let name = match text(after) {
            Ok((name, _)) => name,
            Err(parsed) => return parsed,
        };
        length += name.len() + 1;
        String::from_utf8_lossy(name).into_owned()
    } else {
        Ipv4Addr::new(a, b, c, d).to_string()
    };
    match target(&host, u16::from_be_bytes([port_high, port_low])) {
        Ok(target) => Parsed::Request(target, length),
        Err(why) => Parsed::refused(REJECTED, format!("SOCKS4: {why}")),
    }
}

/// Returns the text before the first NUL, and the bytes after it; or the result for a text without
/// NUL.
fn text(bytes: &[u8]) -> Result<(&[u8], &[u8]), Parsed> {
    match bytes.iter().take(MAX_TEXT + 1).position(|byte| *byte == 0) {
        Some(end) => Ok((&bytes[..end], &bytes[end + 1..])),
        None if bytes.len() > MAX_TEXT => {
            Err(Parsed::refused(REJECTED, "SOCKS4: a text is longer than 255 bytes"))
        }
        None => Err(Parsed::Partial),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(bytes: &[u8]) -> String {
        match parse(bytes) {
            Parsed::Refused(refused) => {
                assert_eq!(refused.say, REJECTED);
                refused.why
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_commands_bad_names_and_long_texts_are_rejected() {
        assert!(why(b"\x04\x02\0\x50\xc0\0\x02\x07").contains("command 2"));
        assert!(why(b"\x04\x01\0\0\xc0\0\x02\x07\0").contains("the port must be"));
        assert!(why(b"\x04\x01\0\x50\0\0\0\x01\0a b\0").contains("a host name has"));
        assert!(why(b"\x04\x01\0\x50\0\0\0\x01\0\xff\xfe\0").contains("a host name has"));
        let long = [b'x'; MAX_TEXT + 1];
        assert!(why(&[b"\x04\x01\0\x50\xc0\0\x02\x07", &long[..]].concat()).contains("longer"));
        assert!(why(&[b"\x04\x01\0\x50\0\0\0\x01\0", &long[..]].concat()).contains("longer"));
    }

    #[test]
    fn the_longest_texts_fit() {
        let user = [b'u'; MAX_TEXT];
        let bytes = [b"\x04\x01\0\x50\xc0\0\x02\x07", &user[..], b"\0"].concat();
        assert_eq!(parse(&bytes), Parsed::Request("192.0.2.7:80".parse().unwrap(), bytes.len()));
    }

    #[test]
    fn the_address_nothing_is_an_address_and_announces_no_name() {
        let parsed = parse(b"\x04\x01\0\x50\0\0\0\0\0");
        assert_eq!(parsed, Parsed::Request("0.0.0.0:80".parse().unwrap(), 9));
    }
}
