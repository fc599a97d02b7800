//! Services that answer in place of the peer, recognized by their first bytes.

use std::fmt;

/// The service that answers where TLS was expected. Its text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Foreign {
    /// An ssh server: its banner begins with `SSH-` (RFC 4253, section 4.2).
    Ssh,
    /// A web server, or the login page of a network.
    Http,
    /// Something else.
    Unknown,
}

impl Foreign {
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"SSH-") {
            Self::Ssh
        } else if bytes.starts_with(b"HTTP/") {
            Self::Http
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssh => {
                "an ssh server answers there; give the port of sproxy, which is 6200 by default, or \
                 use etcp ssh, which needs only ssh"
            }
            Self::Http => {
                "a web server or the login page of a network answers there; check host and port, \
                 and log in to the network"
            }
            Self::Unknown => "check host and port, and that no login page is in between",
        })
    }
}
