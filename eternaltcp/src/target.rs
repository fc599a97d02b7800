//! A target as the payload of an `open` packet.

use bytes::Bytes;

use crate::address::Target;

/// What an `open` packet asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// The server's default target.
    Default,
    /// A named one.
    Named(Target),
    /// The server's own resolver, for DNS over TCP (RFC 7766).
    Resolver,
}

/// The payload that asks for the server's resolver.
pub(crate) const RESOLVER: Bytes = Bytes::from_static(&[4]);

/// The payload that asks for a target; `None` is the server's default one.
#[must_use]
pub(crate) fn encode_target(target: Option<&Target>) -> Bytes {
    match target {
        None => Bytes::from_static(&[0]),
        Some(target) => [&[1], target.to_string().as_bytes()].concat().into(),
    }
}

/// The target that a payload asks for, for people to read.
#[must_use]
pub(crate) fn describe_target(payload: &[u8]) -> String {
    match decode_target(payload) {
        Some(Wanted::Default) => "the default target".to_owned(),
        Some(Wanted::Resolver) => "the server's resolver".to_owned(),
        Some(Wanted::Named(target)) => target.to_string(),
        None => "of an unknown kind".to_owned(),
    }
}

/// Reads the payload of an `open` packet; `None` if it is of no form that is
/// known.
pub(crate) fn decode_target(payload: &[u8]) -> Option<Wanted> {
    match payload.split_first()? {
        (0, []) => Some(Wanted::Default),
        (4, []) => Some(Wanted::Resolver),
        (1, text) => std::str::from_utf8(text).ok()?.parse().ok().map(Wanted::Named),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_back_and_nonsense_does_not() {
        let target: Target = "[2001:db8::1]:22".parse().unwrap();
        assert_eq!(decode_target(&encode_target(Some(&target))), Some(Wanted::Named(target)));
        assert_eq!(decode_target(&encode_target(None)), Some(Wanted::Default));
        assert_eq!(decode_target(&RESOLVER), Some(Wanted::Resolver));
        for payload in
            [&b""[..], b"\0x", b"\x04x", b"\x01", b"\x01host", b"\x02host:1", b"\x01\xff:1"]
        {
            assert_eq!(decode_target(payload), None);
        }
    }
}
