//! The purpose of a session, as the payload of an `open` packet.

use bytes::Bytes;
use eternaltcp_proto::SessionId;

use crate::address::{Listen, Target, is_digits};
use crate::net::origin::Origin;

/// The first byte of the payload.
const DEFAULT: u8 = 0;
const NAMED: u8 = 1;
const LISTEN: u8 = 2;
const ACCEPTED: u8 = 3;
const RESOLVER_KIND: u8 = 4;
const WITH_ORIGIN: u8 = 5;

/// The request of an `open` packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Requested {
    /// The server's default target.
    Default,
    /// A named target.
    Named(Target),
    /// The server's own resolver, for DNS over TCP (RFC 7766).
    Resolver,
    /// Listen at this address for as long as the session lives.
    Listen(Listen),
    /// The target of the listener with this session id, which accepted a connection.
    Accepted(SessionId),
}

/// A parsed payload of an `open` packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OpenRequest {
    pub(crate) wanted: Requested,
    /// The origin of the connection, if the opener sends it.
    pub(crate) origin: Option<Origin>,
}

/// The payload that asks for the server's resolver.
pub(crate) const RESOLVER: Bytes = Bytes::from_static(&[RESOLVER_KIND]);

/// Returns the payload that asks for a target; `None` means the server's default target.
#[must_use]
pub(crate) fn encode_target(target: Option<&Target>, origin: Option<&Origin>) -> Bytes {
    let target = target.map(Target::to_string);
    match (target, origin) {
        (None, None) => Bytes::from_static(&[DEFAULT]),
        (Some(target), None) => [&[NAMED], target.as_bytes()].concat().into(),
        (target, Some(origin)) => {
            let target = target.unwrap_or_default();
            // A target is far shorter than 64 KiB: its host has at most 253 bytes.
            let length = u16::try_from(target.len()).unwrap_or(u16::MAX).to_le_bytes();
            let origin = origin.to_string();
            [&[WITH_ORIGIN], &length[..], target.as_bytes(), origin.as_bytes()].concat().into()
        }
    }
}

/// Describes for people what a payload asks for.
#[must_use]
pub(crate) fn describe_target(payload: &[u8]) -> String {
    match decode_open(payload).map(|opening| opening.wanted) {
        Some(Requested::Default) => "the default target".to_owned(),
        Some(Requested::Resolver) => "the server's resolver".to_owned(),
        Some(Requested::Named(target)) => target.to_string(),
        Some(Requested::Listen(listen)) => format!("listening on {listen}"),
        Some(Requested::Accepted(listener)) => format!("accepted by the listener {listener}"),
        None => "of an unknown kind".to_owned(),
    }
}

/// Returns the payload that asks the server to listen.
#[must_use]
pub(crate) fn encode_listen(listen: &Listen) -> Bytes {
    [&[LISTEN], listen.to_string().as_bytes()].concat().into()
}

/// Returns the payload of a session for a connection that a listener accepted.
#[must_use]
pub(crate) fn encode_accepted(listener: SessionId, origin: Option<&Origin>) -> Bytes {
    let origin = origin.map(Origin::to_string).unwrap_or_default();
    [&[ACCEPTED], &listener.get().to_le_bytes()[..], origin.as_bytes()].concat().into()
}

/// Parses the payload of an `open` packet; `None` if its form is unknown.
pub(crate) fn decode_open(payload: &[u8]) -> Option<OpenRequest> {
    let (kind, rest) = payload.split_first()?;
    let plain = |wanted| Some(OpenRequest { wanted, origin: None });
    match (*kind, rest) {
        (DEFAULT, []) => plain(Requested::Default),
        (RESOLVER_KIND, []) => plain(Requested::Resolver),
        (NAMED, text) => plain(Requested::Named(read_address(text)?)),
        (LISTEN, text) => plain(Requested::Listen(read_address(text)?)),
        (ACCEPTED, rest) => {
            let (listener, origin) = rest.split_first_chunk()?;
            let listener = SessionId::new(u32::from_le_bytes(*listener))?;
            let origin = if origin.is_empty() { None } else { Some(read(origin)?) };
            Some(OpenRequest { wanted: Requested::Accepted(listener), origin })
        }
        (WITH_ORIGIN, rest) => {
            let (length, rest) = rest.split_first_chunk()?;
            let (target, origin) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
            let wanted = match target {
                [] => Requested::Default,
                named => Requested::Named(read_address(named)?),
            };
            Some(OpenRequest { wanted, origin: Some(read(origin)?) })
        }
        _ => None,
    }
}

fn read<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Parses an address with a numeric port. A peer must not cause a look-up of service names in
/// files.
pub(crate) fn read_address<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let (_, port) = std::str::from_utf8(text).ok()?.rsplit_once(':')?;
    if !text.starts_with(b"unix:") && !is_digits(port) {
        return None;
    }
    read(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opening(wanted: Requested, origin: Option<Origin>) -> Option<OpenRequest> {
        Some(OpenRequest { wanted, origin })
    }

    #[test]
    fn payloads_come_back() {
        let target: Target = "[2001:db8::1]:22".parse().unwrap();
        let origin: Option<Origin> = "192.0.2.1:5 127.0.0.1:5200".parse().ok();
        for origin in [None, origin] {
            let named = encode_target(Some(&target), origin.as_ref());
            assert_eq!(decode_open(&named), opening(Requested::Named(target.clone()), origin));
            let default = encode_target(None, origin.as_ref());
            assert_eq!(decode_open(&default), opening(Requested::Default, origin));
            assert_eq!(decode_open(&RESOLVER), opening(Requested::Resolver, None));
            let listener = SessionId::new(0x0102_0305).unwrap();
            let accepted = encode_accepted(listener, origin.as_ref());
            assert_eq!(decode_open(&accepted), opening(Requested::Accepted(listener), origin));
        }
        for listen in ["*:8080", "localhost:0", "[fe80::1%eth0]:8080", "[::1]:80", "unix:/x"] {
            let listen: Listen = listen.parse().unwrap();
            assert_eq!(
                decode_open(&encode_listen(&listen)),
                opening(Requested::Listen(listen), None)
            );
        }
    }

    #[test]
    fn the_longest_target_fits_an_open_packet() {
        let host = format!("{}.example", "a".repeat(245));
        let target: Target = format!("{host}:65535").parse().unwrap();
        let v6 = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let origin: Origin = format!("{v6} {v6}").parse().unwrap();
        assert!(encode_target(Some(&target), Some(&origin)).len() <= 512);
    }

    #[test]
    fn nonsense_is_not_read() {
        for payload in [
            &b""[..],
            b"\0x",
            b"\x01",
            b"\x01host",
            b"\x01\xff:1",
            b"\x02",
            b"\x02host:ssh",
            b"\x01host:ssh",
            b"\x02host:",
            b"\x03\x01\0\0",
            b"\x04x",
            b"\x03\0\0\0\0",
            b"\x03\x01\0\0\0x",
            b"\x05\0",
            b"\x05\0\0",
            b"\x05\xff\xffdb:1",
            b"\x05\x04\0db:11.2.3.4:5",
            b"\x06",
        ] {
            assert_eq!(decode_open(payload), None, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload: Vec<u8>, kind in 0..7_u8) {
            let _ = decode_open(&payload);
            let _ = decode_open(&[&[kind], &payload[..]].concat());
        }
    }
}
