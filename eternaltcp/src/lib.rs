//! TCP connections that outlive their network: sockets, TLS, keys, forwards
//! and policy around the state machine of `eternaltcp-proto`.

pub mod address;
pub mod client;
mod driver;
pub mod duration;
mod instance;
mod listener;
mod memory;
mod net;
mod platform;
pub mod policy;
pub mod report;
pub mod server;
mod slots;
mod stream;
mod target;
pub mod tls;

pub use eternaltcp_proto::{Config as TunnelConfig, Instance, Stats as TunnelStats};
pub use instance::this_instance;
pub use listener::Listener;
pub use net::Mptcp;
pub use slots::Slots;
pub use stream::{Stream, peer_name};
