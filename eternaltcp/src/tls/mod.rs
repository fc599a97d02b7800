//! Keys and the TLS of a carrier. Only this module knows rustls and ssh-key.

mod key;

pub use key::{KeyError, PublicKey};
