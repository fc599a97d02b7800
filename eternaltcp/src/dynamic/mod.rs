//! The protocols in which applications name their targets: SOCKS4, SOCKS4a, SOCKS5 and HTTP
//! CONNECT, distinguished by their first byte.
//!
//! All of it is pure. [`Conversation`] parses the bytes of a connection into a [`TargetRequest`];
//! [`Dialect`] formats the result in the application's protocol.

mod conversation;
mod dialect;
mod http;
mod socks4;
mod socks5;

pub(crate) use conversation::{Conversation, Step};
pub(crate) use dialect::Dialect;

use crate::address::Target;

/// The request of an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TargetRequest {
    /// The requested target.
    pub(crate) target: Target,
    /// The form of the answer.
    pub(crate) asked: ProtocolRequest,
}

/// The protocol of a request, and its length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ProtocolRequest {
    /// The language of the answer.
    pub(crate) dialect: Dialect,
    /// The bytes of the request, which wait at the socket. The bytes after them are for the target.
    pub(crate) length: usize,
}

/// A request that is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RefusedRequest {
    /// The answer to the application before the connection is closed.
    pub(crate) say: Vec<u8>,
    /// The reason for the log, in one line.
    pub(crate) why: String,
}

/// The result of parsing the bytes so far.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Parsed {
    /// An incomplete request.
    Partial,
    /// A request for a target, and its length in bytes.
    Request(Target, usize),
    /// A request that is refused.
    Refused(RefusedRequest),
}

impl Parsed {
    fn refused(say: impl Into<Vec<u8>>, why: impl Into<String>) -> Self {
        Self::Refused(RefusedRequest { say: say.into(), why: why.into() })
    }
}

/// Returns a target from an address or a name and a port of a request.
fn target(host: &str, port: u16) -> Result<Target, String> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let text =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match text.parse() {
        Ok(target @ Target::Tcp { .. }) => Ok(target),
        Ok(Target::Unix(_)) => Err(format!("{text:?} is not a host")),
        Err(error) => Err(crate::address::AddressError::to_string(&error)),
    }
}
