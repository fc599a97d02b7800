//! A client's complete request on a carrier. The acceptor makes it, and a tunnel takes it.

use bytes::Bytes;

use crate::attach::Hello;
use crate::decoder::Decoder;
use crate::id::{Epoch, TunnelId};
use crate::liveness::Liveness;
use crate::numbers::Numbers;
use crate::packet::Header;

/// A complete request, for [`crate::Tunnel::handle_attach`].
#[derive(Clone, Debug)]
pub struct AttachRequest {
    pub(crate) hello: Hello,
    pub(crate) numbers: Vec<Numbers>,
    pub(crate) early: Vec<(Header, Bytes)>,
    pub(crate) decoder: Decoder,
}

impl AttachRequest {
    /// Returns the client's `attach` packet.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }
}

/// A standby carrier that asks to join the attached one, for [`crate::Tunnel::handle_join`].
#[derive(Debug)]
pub struct JoinRequest {
    pub(crate) tunnel: TunnelId,
    pub(crate) epoch: Epoch,
    pub(crate) decoder: Decoder,
    pub(crate) liveness: Liveness,
}

impl JoinRequest {
    /// Returns whether the client has sent more behind its request.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        !self.decoder.is_empty()
    }
}
