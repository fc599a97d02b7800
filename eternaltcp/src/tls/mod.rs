//! Keys and the TLS of a carrier. Only this module knows rustls, ring and ssh-key.
//!
//! From the outside in:
//!
//! - [`Identity`] and [`PublicKey`]: keys, in OpenSSH's files and formats;
//! - [`ClientTls`] and [`ServerTls`]: the one TLS configuration, made from an identity;
//! - [`handshake()`]: a connection's handshake over its socket;
//! - [`Connection`]: TLS without a socket: rustls does the handshake
//!   (`negotiation`), then the records are protected in place (`traffic`).
//!
//! TLS proves that the peer owns its key. Whether that key is let in is decided
//! elsewhere.

mod alert;
mod cipher;
mod config;
mod connection;
mod delivery;
mod error;
mod gather;
mod handshake;
mod identity;
mod key;
mod key_file;
mod negotiation;
mod post_handshake;
mod record;
mod secrets;
mod signing;
mod spki;
#[cfg(test)]
mod tests;
mod traffic;
mod verify;

pub use alert::Alert;
pub use config::{ALPN, ClientTls, ServerTls};
pub use connection::{Connection, Status};
pub use error::TlsError;
pub use handshake::{HandshakeError, Handshaken, handshake};
pub use identity::Identity;
pub use key::{KeyError, PublicKey};
pub use key_file::IdentityError;
