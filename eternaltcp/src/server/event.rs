//! The events of the driver of a server's tunnel.

use eternaltcp_proto::{AttachRequest, Closing, JoinRequest, TunnelId};

use crate::driver::{self, CarrierIo};

/// A handle of the driver of a server's tunnel.
pub(super) type ServerHandle = driver::DriverHandle<ServerEvent>;

/// An event for the server's role.
#[derive(Debug)]
pub(super) enum ServerEvent {
    /// A client asks for its carrier to be bound.
    Attach { id: TunnelId, request: Box<AttachRequest>, carrier: Box<CarrierIo> },
    /// A client asks for its carrier to join the attached one.
    Join { request: Box<JoinRequest>, carrier: Box<CarrierIo> },
    /// Asks the client with a heartbeat whether it lives, because another client has its name.
    Probe,
    /// State again what the server says about itself, as far as it is new.
    Announce,
    /// The server ends, for this reason.
    Close(Closing),
}
