//! TCP connections that outlive their network: sockets, TLS, keys, forwards
//! and policy around the state machine of `eternaltcp-proto`.

pub mod address;
pub mod duration;
pub mod policy;
pub mod tls;
