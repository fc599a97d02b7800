//! The export of a tunnel's state, and its restoration.
//!
//! The numbers become bytes. The payload is handed over in its own buffers, without a copy. The
//! format is for two builds of the same program on the same machine: it has a version, and no other
//! guarantee.

use bytes::Bytes;

use super::{Event, Identity, Peer, Tunnel};
use crate::attach::Settings;
use crate::config::Config;
use crate::id::{Epoch, SessionId, Side, TunnelId};
use crate::reason::Closing;
use crate::wire::{Malformed, Reader, Writer};

/// The version of the exported form.
const FORMAT: u16 = 3;

/// A tunnel without its driver: its state as bytes, and its payload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DetachedTunnel {
    /// All numbers and states.
    pub numbers: Vec<u8>,
    /// The payload that `numbers` refers to, in order.
    pub buffers: Vec<Bytes>,
}

/// Why a tunnel cannot be restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreError {
    /// It was exported by another version.
    #[error("the tunnel was exported in format {0}, and this program reads format {FORMAT}")]
    Format(u16),
    /// The numbers or buffers are not what an export gives.
    #[error("the exported tunnel is damaged")]
    Damaged,
}

impl From<Malformed> for RestoreError {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

impl Tunnel {
    /// Takes out the state. The driver must have reported before how much each local socket took.
    /// The carrier, if any, is ignored from now on.
    #[must_use]
    pub fn export(mut self) -> DetachedTunnel {
        self.handle_lost();
        let Self {
            config,
            identity: Identity { side, id, epoch },
            peer: Peer { settings, features: _ },
            sessions,
            carriers: _,
            early: _,
            closing,
            stats: _,
            events: _,
        } = self;
        let mut writer = Writer::default().u16(FORMAT).bool(side == Side::Server).u64(epoch.0);
        writer = sessions
            .export_ids(writer)
            .counted(id.as_ref().map_or(&[], |id| &id.0))
            .u64(config.tunnel_limit)
            .u64(config.session_limit);
        writer = match settings {
            Some(settings) => writer.bool(true).counted(&settings.to_bytes()),
            None => writer.bool(false),
        };
        writer = match closing {
            Some(why) => writer.bool(true).u32(why.code()),
            None => writer.bool(false),
        };
        let mut buffers = Vec::new();
        let numbers = sessions.export(writer, &mut buffers).finish();
        DetachedTunnel { numbers, buffers }
    }

    /// Returns one session as [`Self::export`] would. For tests, which compare it.
    #[doc(hidden)]
    #[must_use]
    pub fn export_session(&self, id: SessionId) -> Option<DetachedTunnel> {
        let session = self.sessions.get(id)?;
        let mut buffers = Vec::new();
        let numbers = session.export(Writer::default(), &mut buffers).finish();
        Some(DetachedTunnel { numbers, buffers })
    }

    /// Restores an exported state: the tunnel continues exactly, detached, and its next attach has
    /// a higher epoch than all that were used before.
    ///
    /// # Errors
    /// The state is of another format, or damaged.
    pub fn restore(config: Config, detached: DetachedTunnel) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(&detached.numbers);
        let format = reader.u16()?;
        if format != FORMAT {
            return Err(RestoreError::Format(format));
        }
        let side = if reader.u8()? == 0 { Side::Client } else { Side::Server };
        let mut tunnel = Self::new(side, config);
        tunnel.identity.epoch = Epoch(reader.u64()?);
        tunnel.sessions.restore_ids(&mut reader)?;
        tunnel.identity.id = match reader.counted()? {
            [] => None,
            bytes => Some(TunnelId(bytes.try_into().map_err(|_| RestoreError::Damaged)?)),
        };
        // Limits that the peer was told remain valid, also for sessions that this side has not
        // heard of: the peer sends their packets again unchanged.
        let Config { tunnel_limit, session_limit, .. } = &mut tunnel.config;
        *tunnel_limit = reader.u64()?.max(*tunnel_limit);
        *session_limit = reader.u64()?.max(*session_limit);
        if reader.bool()? {
            let peer = Settings::from_bytes(reader.counted()?)?;
            tunnel.sessions.set_pool_limit(peer.tunnel_limit.min(tunnel.config.tunnel_limit));
            tunnel.peer.settings = Some(peer);
        }
        if reader.bool()? {
            tunnel.closing = Some(Closing::from_code(reader.u32()?));
        }
        let mut buffers = detached.buffers.into_iter();
        let limit = tunnel.config.session_limit;
        let offered = tunnel.sessions.restore(limit, &mut reader, &mut buffers)?;
        tunnel.events.extend(offered.into_iter().map(Event::Opened));
        reader.end()?;
        if buffers.next().is_some() {
            return Err(RestoreError::Damaged);
        }
        Ok(tunnel)
    }
}
