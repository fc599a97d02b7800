//! What an application says that names its target itself: SOCKS4, SOCKS4a,
//! SOCKS5 and HTTP CONNECT, told apart by their first byte.
//!
//! All of it is pure. [`Conversation`] turns the bytes of a connection into a
//! [`Request`]; [`Dialect`] puts the outcome into the application's words.

mod conversation;
mod dialect;
mod http;
mod socks4;
mod socks5;

pub(crate) use conversation::{Conversation, Step};
pub(crate) use dialect::Dialect;

use bytes::Bytes;

use crate::address::Target;

/// What an application asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// Where it wants to go.
    pub(crate) target: Target,
    /// How it is to be answered.
    pub(crate) asked: Asked,
}

/// How a request came, and what came after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// The language of the answer.
    pub(crate) dialect: Dialect,
    /// Bytes behind the request: the first ones for the target.
    pub(crate) early: Bytes,
}

/// A request that is not carried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    /// What the application is told before the connection is closed.
    pub(crate) say: Vec<u8>,
    /// The same for the log, in one line.
    pub(crate) why: String,
}

/// What the bytes that came so far are.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Parsed {
    /// The beginning of something.
    Partial,
    /// A request for a target, of so many bytes.
    Request(Target, usize),
    /// Nothing that is carried.
    Refused(Refused),
}

impl Parsed {
    fn refused(say: impl Into<Vec<u8>>, why: impl Into<String>) -> Self {
        Self::Refused(Refused { say: say.into(), why: why.into() })
    }
}

/// A target of an address or a name and a port that a request carried.
fn target(host: &str, port: u16) -> Result<Target, String> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let text =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match text.parse() {
        Ok(target @ Target::Tcp { .. }) => Ok(target),
        Ok(Target::Unix(_)) => Err(format!("{text:?} is no host")),
        Err(error) => Err(crate::address::AddressError::to_string(&error)),
    }
}
