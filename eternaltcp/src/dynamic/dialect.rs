//! The answers to an application about its target, in the protocol of its request.

use eternaltcp_proto::{Cause, Reset};

use super::{http, socks4, socks5};

/// The protocol of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// SOCKS4 and SOCKS4a, which differ only in the request.
    Socks4,
    /// SOCKS5.
    Socks5,
    /// HTTP CONNECT.
    Http,
}

impl Dialect {
    /// Returns its number in the store, which is never zero.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Socks4 => 1,
            Self::Socks5 => 2,
            Self::Http => 3,
        }
    }

    /// Returns the dialect with this number.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Socks4, Self::Socks5, Self::Http].into_iter().find(|it| it.code() == code)
    }

    /// Returns the answer that the target is connected.
    pub(crate) fn connected(self) -> &'static [u8] {
        const SUCCEEDED: &[u8] = &socks5::answer(socks5::reply::SUCCEEDED);
        match self {
            Self::Socks4 => &socks4::GRANTED,
            Self::Socks5 => SUCCEEDED,
            Self::Http => http::CONNECTED,
        }
    }

    /// Returns the answer that the target is not connected, with the reason.
    pub(crate) fn refused(self, reset: &Reset) -> Vec<u8> {
        match self {
            Self::Socks4 => socks4::REJECTED.into(),
            Self::Socks5 => socks5::answer(socks5_code(reset.cause)).into(),
            Self::Http => http::response(http_status(reset.cause), "", &reset.to_string()),
        }
    }
}

/// Returns the most specific code (RFC 1928, section 6).
fn socks5_code(cause: Cause) -> u8 {
    use socks5::reply;
    match cause {
        Cause::Refused => reply::REFUSED,
        Cause::Unreachable | Cause::NotFound => reply::HOST_UNREACHABLE,
        Cause::TimedOut => reply::TTL_EXPIRED,
        Cause::NotPermitted => reply::NOT_ALLOWED,
        Cause::Unsupported => reply::ADDRESS_NOT_SUPPORTED,
        _ => reply::GENERAL_FAILURE,
    }
}

/// Returns the status that a proxy uses (RFC 9110, section 15).
fn http_status(cause: Cause) -> &'static str {
    match cause {
        Cause::NotPermitted => "403 Forbidden",
        Cause::LimitReached => "503 Service Unavailable",
        Cause::TimedOut => "504 Gateway Timeout",
        _ => "502 Bad Gateway",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_code_in_each_language() {
        for (cause, code, status) in [
            (Cause::Refused, 5, "502"),
            (Cause::Unreachable, 4, "502"),
            (Cause::NotFound, 4, "502"),
            (Cause::TimedOut, 6, "504"),
            (Cause::NotPermitted, 2, "403"),
            (Cause::Unsupported, 8, "502"),
            (Cause::LimitReached, 1, "503"),
            (Cause::Application, 1, "502"),
            (Cause::TunnelOver, 1, "502"),
            (Cause::Other(99), 1, "502"),
        ] {
            let reset = Reset::with_detail(cause, "web.test:80");
            assert_eq!(Dialect::Socks4.refused(&reset), [0, 91, 0, 0, 0, 0, 0, 0]);
            assert_eq!(Dialect::Socks5.refused(&reset), [5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
            let answer = String::from_utf8(Dialect::Http.refused(&reset)).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.ends_with(&format!("{cause}: web.test:80\n")), "{answer}");
        }
        assert_eq!(Dialect::Socks4.connected(), [0, 90, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Dialect::Socks5.connected(), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Dialect::Http.connected(), b"HTTP/1.1 200 Connection established\r\n\r\n");
    }

    #[test]
    fn text_of_the_peer_cannot_become_a_header() {
        let reset = Reset::with_detail(Cause::Refused, "x\r\nSet-Cookie: a\r\n\r\n");
        let answer = String::from_utf8(Dialect::Http.refused(&reset)).unwrap();
        assert_eq!(answer.matches("\r\n\r\n").count(), 1);
        assert_eq!(answer.matches('\n').count(), answer.matches("\r\n").count() + 1);
    }
}
