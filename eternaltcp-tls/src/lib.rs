//! Keys and the TLS of a carrier. Only this crate knows rustls and ssh-key.
//!
//! From the outside in:
//!
//! - [`Identity`] and [`PublicKey`]: keys, in OpenSSH's files and formats, or in
//!   an [`Agent`];
//! - [`ClientTls`] and [`ServerTls`]: the TLS configuration, made from an identity;
//! - [`handshake()`]: a connection's handshake over its socket;
//! - [`Connection`]: TLS without a socket. rustls performs the handshake in the steps of `side`;
//!   `traffic` handles what follows, with the keys that rustls derives.
//!
//! TLS proves that the peer owns its key. Other code decides whether the key is admitted: a client
//! decides within the handshake (`judging`), before it shows its own key, and a server decides
//! after it.

#![forbid(unsafe_code)]

mod agent;
mod agent_signing;
mod alert;
mod algorithms;
mod allowance;
mod config;
mod connection;
mod continuation;
mod delivery;
mod error;
mod fault;
mod foreign;
mod handshake;
mod identify;
mod identity;
mod key;
mod key_file;
mod node;
mod openssh_file;
mod private_file;
mod record;
mod side;
mod signature;
mod signing;
mod spki;
#[cfg(test)]
mod tests;
mod traffic;
mod verify;

#[doc(hidden)]
pub use agent::read_answers;
pub use agent::{Agent, AgentError, AgentKey};
pub use agent_signing::SigningPermit;
pub use alert::Alert;
use algorithms::ALPN;
pub use config::{ClientTls, ServerTls};
pub use connection::{Connection, Status};
pub use continuation::Continuation;
pub use error::TlsError;
pub use foreign::Foreign;
pub use handshake::{Deadlines, handshake_of_stranger, handshake_off_path};
pub use handshake::{HandshakeError, Handshaken, handshake};
pub use identify::{answers_hello, identify};
pub use identity::Identity;
pub use key::{KeyError, PublicKey};
pub use key_file::IdentityError;
pub use node::{NodeName, NodeNameError};
pub use private_file::{NewKey, PrivateFile};
pub use signature::SignatureError;
pub use verify::Judgement;
