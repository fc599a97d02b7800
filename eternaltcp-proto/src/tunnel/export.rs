//! A tunnel's state, taken out and put back.
//!
//! The numbers become bytes; payload is handed over as the buffers it lies in,
//! uncopied. The format is between two builds of the same program on the same
//! machine, so it has a version and no promise beyond that.

use bytes::Bytes;

use super::{Event, Tunnel};
use crate::attach::Settings;
use crate::config::Config;
use crate::digest::Digest;
use crate::id::{Epoch, SessionId, Side, TunnelId};
use crate::packet::Kind;
use crate::reason::{Cause, Closing, Reset};
use crate::receive_queue::ReceiveState;
use crate::send_queue::{Queued, SendState};
use crate::seq::Seq;
use crate::session::{Opening, Session};
use crate::wire::{Malformed, Reader, Writer};

/// Version of the exported form.
const FORMAT: u16 = 3;

/// No session has more in doubt: sums of what a damaged file says do not overflow.
const MOST_DROPPED: u64 = 1 << 48;

/// A tunnel without its driver: what it knows, as bytes, and its payload.
#[derive(Clone, Debug, Default)]
pub struct DetachedTunnel {
    /// All numbers and states.
    pub numbers: Vec<u8>,
    /// The payload that `numbers` refers to, in order.
    pub buffers: Vec<Bytes>,
}

/// Why a tunnel cannot be made of what was exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreError {
    /// It was exported by another version.
    #[error("the tunnel was exported in format {0}, and this program reads format {FORMAT}")]
    Format(u16),
    /// Numbers or buffers are not what an export gives.
    #[error("the exported tunnel is damaged")]
    Damaged,
}

impl From<Malformed> for RestoreError {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

impl Tunnel {
    /// Takes the state out. The driver has said before how much each local
    /// socket took; the carrier, if any, counts no more.
    #[must_use]
    pub fn export(mut self) -> DetachedTunnel {
        self.handle_lost();
        let mut buffers = Vec::new();
        let mut writer = Writer::default()
            .u16(FORMAT)
            .u8(u8::from(self.side == Side::Server))
            .u64(self.epoch.0)
            .u32(self.next_id.map_or(0, SessionId::get))
            .u32(self.peer_id.map_or(0, SessionId::get))
            .counted(self.id.as_ref().map_or(&[], |id| &id.0))
            .u64(self.config.tunnel_limit)
            .u64(self.config.session_limit);
        writer = match &self.peer {
            Some(peer) => writer.u8(1).counted(&peer.to_bytes()),
            None => writer.u8(0),
        };
        writer = match self.closing {
            Some(why) => writer.u8(1).u32(why.code()),
            None => writer.u8(0),
        };
        let sessions = std::mem::take(&mut self.sessions);
        writer = writer.u32(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
        for (id, session) in sessions {
            writer = write_session(writer.u32(id.get()), session, &mut buffers);
        }
        DetachedTunnel { numbers: writer.finish(), buffers }
    }

    /// Puts exported state back: the tunnel goes on exactly, detached, and its
    /// next attach has an epoch above all that were used before.
    ///
    /// # Errors
    /// When the state is of another format, or damaged.
    pub fn restore(config: Config, detached: DetachedTunnel) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(&detached.numbers);
        let format = reader.u16()?;
        if format != FORMAT {
            return Err(RestoreError::Format(format));
        }
        let side = if reader.u8()? == 0 { Side::Client } else { Side::Server };
        let mut tunnel = Self::new(side, config);
        tunnel.epoch = Epoch(reader.u64()?);
        tunnel.next_id = SessionId::new(reader.u32()?);
        tunnel.peer_id = SessionId::new(reader.u32()?);
        tunnel.id = match reader.counted()? {
            [] => None,
            bytes => Some(TunnelId(bytes.try_into().map_err(|_| RestoreError::Damaged)?)),
        };
        // What the peer was told that is held stays true: also for sessions of which
        // this side has not heard, as what was sent of them is sent again as it is.
        let Config { tunnel_limit, session_limit, .. } = &mut tunnel.config;
        *tunnel_limit = reader.u64()?.max(*tunnel_limit);
        *session_limit = reader.u64()?.max(*session_limit);
        if reader.u8()? == 1 {
            let peer = Settings::from_bytes(reader.counted()?)?;
            tunnel.pool.set_limit(peer.tunnel_limit.min(tunnel.config.tunnel_limit));
            tunnel.peer = Some(peer);
        }
        if reader.u8()? == 1 {
            tunnel.closing = Some(Closing::from_code(reader.u32()?));
        }
        let mut buffers = detached.buffers.into_iter();
        for _ in 0..reader.u32()? {
            let id = SessionId::new(reader.u32()?).ok_or(RestoreError::Damaged)?;
            if tunnel.sessions.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(RestoreError::Damaged);
            }
            let session = read_session(&tunnel.config, &mut reader, &mut buffers)?;
            tunnel.insert_restored(id, session);
        }
        reader.end()?;
        if buffers.next().is_some() {
            return Err(RestoreError::Damaged);
        }
        Ok(tunnel)
    }

    fn insert_restored(&mut self, id: SessionId, session: Session) {
        self.pool.admit_refused();
        self.pool.change(0, session.send.charged());
        self.backlogged += session.send.backlog.len() as u64;
        self.received += session.receive.held;
        if session.send.state == SendState::Resetting && !session.send.backlog.is_empty() {
            self.resetting.insert(id, crate::Time::ZERO);
        }
        if matches!(session.opening, Opening::Offered(_)) {
            self.events.push_back(Event::Opened(id));
        }
        self.sessions.insert(id, session);
        self.touch(id);
    }
}

fn write_session(writer: Writer, session: Session, buffers: &mut Vec<Bytes>) -> Writer {
    let Session { send, receive, opening, abort, .. } = session;
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let mut writer = match opening {
        Opening::Asked => writer.u8(0),
        Opening::Offered(target) => writer.u8(1).counted(&target),
        Opening::Established => writer.u8(2),
    };
    writer = write_reset(writer, abort.as_ref())
        .u32(send.next.get())
        .u64(send.limit)
        .u64(send.dropped)
        .u64(send.base_digest.get())
        .u8(send.state as u8)
        .u8(u8::from(send.is_acknowledged))
        .u8(u8::from(send.is_cut))
        .u8(u8::from(send.is_reset));
    writer = match &send.opening {
        Some((kind, payload)) => writer.u8(1 + *kind as u8).counted(payload),
        None => writer.u8(0),
    };
    writer = write_reset(writer, send.reset.as_ref()).u32(count(send.packets.len()));
    for packet in send.packets {
        writer = writer.u8(packet.kind as u8).u64(packet.digest.get());
        buffers.push(packet.payload);
    }
    let backlog = send.backlog.into_chunks();
    writer = writer.u32(count(backlog.len()));
    buffers.extend(backlog);
    writer = writer
        .u32(receive.next.get())
        .u32(count(receive.offset))
        .u64(receive.digest.get())
        .u64(receive.limit)
        .u64(receive.used)
        .u32(receive.endings)
        .u8(u8::from(receive.is_reset))
        .u8(u8::from(receive.is_discarding));
    writer = match &receive.state {
        ReceiveState::Open => writer.u8(0),
        ReceiveState::Ended(digest) => writer.u8(1).u64(digest.get()),
        ReceiveState::Reset(reset) => write_reset(writer.u8(2), Some(reset)),
        ReceiveState::Done => writer.u8(3),
    };
    writer = writer.u32(count(receive.packets.len()));
    buffers.extend(receive.packets);
    writer
}

fn read_session(
    config: &Config,
    reader: &mut Reader<'_>,
    buffers: &mut impl Iterator<Item = Bytes>,
) -> Result<Session, RestoreError> {
    let opening = match reader.u8()? {
        0 => Opening::Asked,
        1 => Opening::Offered(Bytes::copy_from_slice(reader.counted()?)),
        2 => Opening::Established,
        _ => return Err(RestoreError::Damaged),
    };
    let mut session = Session::new(config, 0, opening);
    session.abort = read_reset(reader)?;
    read_send(&mut session, reader, buffers)?;
    read_receive(&mut session, reader, buffers)?;
    session.told = session.receive.delivered();
    Ok(session)
}

fn read_send(
    session: &mut Session,
    reader: &mut Reader<'_>,
    buffers: &mut impl Iterator<Item = Bytes>,
) -> Result<(), RestoreError> {
    let send = &mut session.send;
    send.next = Seq::new(reader.u32()?);
    send.limit = reader.u64()?;
    send.dropped = reader.u64()?.min(MOST_DROPPED);
    send.base_digest = Digest::new(reader.u64()?);
    send.state = match reader.u8()? {
        0 => SendState::Open,
        1 => SendState::Ending,
        2 => SendState::Resetting,
        3 => SendState::Ended,
        4 => SendState::Reset,
        5 => SendState::Done,
        _ => return Err(RestoreError::Damaged),
    };
    send.is_acknowledged = reader.u8()? != 0;
    send.is_cut = reader.u8()? != 0;
    send.is_reset = reader.u8()? != 0;
    send.opening = match reader.u8()? {
        0 => None,
        kind => {
            let kind = Kind::from_wire(u32::from(kind) - 1).ok_or(RestoreError::Damaged)?;
            Some((kind, Bytes::copy_from_slice(reader.counted()?)))
        }
    };
    send.reset = read_reset(reader)?;
    for _ in 0..reader.u32()? {
        let kind = Kind::from_wire(u32::from(reader.u8()?)).ok_or(RestoreError::Damaged)?;
        let digest = Digest::new(reader.u64()?);
        let payload = buffers.next().ok_or(RestoreError::Damaged)?;
        send.restore(Queued { kind, payload, digest });
    }
    for _ in 0..reader.u32()? {
        send.backlog.push(buffers.next().ok_or(RestoreError::Damaged)?);
    }
    Ok(())
}

fn read_receive(
    session: &mut Session,
    reader: &mut Reader<'_>,
    buffers: &mut impl Iterator<Item = Bytes>,
) -> Result<(), RestoreError> {
    let receive = &mut session.receive;
    receive.next = Seq::new(reader.u32()?);
    receive.offset = reader.u32()? as usize;
    receive.digest = Digest::new(reader.u64()?);
    receive.limit = reader.u64()?;
    receive.used = reader.u64()?.min(receive.limit);
    receive.endings = reader.u32()?;
    receive.is_reset = reader.u8()? != 0;
    if receive.endings > 2 {
        return Err(RestoreError::Damaged);
    }
    receive.is_discarding = reader.u8()? != 0;
    receive.state = match reader.u8()? {
        0 => ReceiveState::Open,
        1 => ReceiveState::Ended(Digest::new(reader.u64()?)),
        2 => ReceiveState::Reset(read_reset(reader)?.ok_or(RestoreError::Damaged)?),
        3 => ReceiveState::Done,
        _ => return Err(RestoreError::Damaged),
    };
    for _ in 0..reader.u32()? {
        receive.restore(buffers.next().ok_or(RestoreError::Damaged)?);
    }
    if receive.packets.front().map_or(receive.offset != 0, |front| receive.offset >= front.len()) {
        return Err(RestoreError::Damaged);
    }
    Ok(())
}

fn write_reset(writer: Writer, reset: Option<&Reset>) -> Writer {
    match reset {
        None => writer.u8(0),
        Some(reset) => writer.u8(1).u32(reset.cause.code()).counted(reset.detail.as_bytes()),
    }
}

fn read_reset(reader: &mut Reader<'_>) -> Result<Option<Reset>, Malformed> {
    if reader.u8()? == 0 {
        return Ok(None);
    }
    let cause = Cause::from_code(reader.u32()?);
    Ok(Some(Reset::with_detail(cause, reader.text()?)))
}
