//! From a stranger's connection to a carrier of a tunnel.
//!
//! The order is fixed: TLS proves a key, policy judges it, and only then is a
//! tunnel looked up. Every step has a deadline.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eternaltcp_proto::{
    AcceptError, Acceptor, AttachRequest, Hello, Instance, Intent, Progress, Refusal, RefusalCode,
    Side, Tunnel, TunnelId, encode_refusal,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::Context;
use super::gate::Ticket;
use super::registry::Entry;
use super::role::ServerRole;
use crate::address::canonical_ip;
use crate::driver::{CarrierError, CarrierIo, Command, Driver, channel, linger};
use crate::net::prepare_carrier;
use crate::tls::{Connection, HandshakeError, PublicKey, handshake};

/// An admitted client's time to tell the numbers of all its sessions.
const NUMBERS_GRACE: Duration = Duration::from_secs(30);

/// How often a name that is taken is looked at again.
const NAME_TICK: Duration = Duration::from_millis(100);

/// Why a connection did not become a carrier.
#[derive(Debug, thiserror::Error)]
enum Unwelcome {
    #[error("it took too long")]
    TimedOut,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
    #[error("{0}")]
    Refused(Refusal),
}

impl From<std::io::Error> for Unwelcome {
    fn from(error: std::io::Error) -> Self {
        Self::Carrier(error.into())
    }
}

/// Takes a connection as far as it comes.
pub(super) async fn welcome(
    context: Arc<Context>,
    stream: TcpStream,
    peer: SocketAddr,
    _ticket: Ticket,
) {
    let peer = SocketAddr::new(canonical_ip(peer.ip()), peer.port());
    match admit(&context, stream, peer.ip()).await {
        Ok(()) => {}
        Err(error @ Unwelcome::Refused(_)) => info!("refused {peer}: {error}"),
        Err(error) => debug!("no carrier from {peer}: {error}"),
    }
}

async fn admit(context: &Arc<Context>, stream: TcpStream, from: IpAddr) -> Result<(), Unwelcome> {
    let deadline = Instant::now() + context.limits.login_grace;
    prepare_carrier(&stream)?;
    let mut tls = Connection::server(&context.tls).map_err(HandshakeError::from)?;
    let mut incoming = BytesMut::new();
    let done = handshake(&stream, &mut tls, &mut incoming, deadline).await?;
    let carrier = CarrierIo::new(stream, tls, incoming)?;
    let acceptor = Acceptor::new(context.tunnel.max_sessions as usize * 2);
    let mut guest = Guest { carrier, acceptor, chunks: done.early.into(), key: done.peer, from };
    let hello = match timeout_at(deadline, guest.hello()).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => return Err(guest.send_off(error)),
        Err(_) => return Err(Unwelcome::TimedOut),
    };
    match place(context, &guest, &hello).await {
        Ok(place) => guest.settle(context, place).await,
        Err(refusal) => Err(guest.send_off(Unwelcome::Refused(refusal))),
    }
}

/// Where an admitted client's carrier goes.
enum Place {
    Existing(TunnelId, Entry),
    New { user: PublicKey, own: PublicKey, instance: Instance, limit: u64 },
}

/// Policy first, then the tunnel.
async fn place(context: &Context, guest: &Guest, hello: &Hello) -> Result<Place, Refusal> {
    if let Err(error) = context.keys.refresh().await {
        warn!("{error}: no new tunnel is admitted until it can be read");
    }
    match &hello.intent {
        Intent::Resume { tunnel } => {
            let entry = context.registry.find(*tunnel, &guest.key).ok_or_else(|| {
                Refusal::last(RefusalCode::TunnelUnknown, "its sessions cannot be resumed")
            })?;
            context
                .keys
                .judge(&entry.user, guest.from)
                .map_err(|denial| super::keys::refusal(&denial))?;
            Ok(Place::Existing(*tunnel, entry))
        }
        Intent::New { enrol, instance } => {
            context.keys.admit(&guest.key, guest.from)?;
            let own = std::str::from_utf8(enrol)
                .ok()
                .and_then(|text| PublicKey::from_openssh(text).ok())
                .ok_or_else(|| {
                    Refusal::last(RefusalCode::Version, "the tunnel's own key cannot be read")
                })?;
            check_name(context, &guest.key, instance).await?;
            let wanted = context.tunnel.tunnel_limit;
            let limit = context.registry.grant(&guest.key, wanted, &context.limits)?;
            let (user, instance) = (guest.key.clone(), instance.clone());
            Ok(Place::New { user, own, instance, limit })
        }
    }
}

/// A client that starts anew ends its own ghost. One whose name a live client
/// has is refused, once it is sure that the other lives.
async fn check_name(
    context: &Context,
    user: &PublicKey,
    instance: &Instance,
) -> Result<(), Refusal> {
    let until = Instant::now() + context.tunnel.dead_after + Duration::from_millis(500);
    while let Some(live) = context.registry.replace_ghosts(user, instance) {
        if Instant::now() >= until {
            let advice = format!(
                "{:?} of user {:?} is attached from {}: end it, or give this one another --name",
                instance.name,
                instance.user,
                live.from(),
            );
            return Err(Refusal::last(RefusalCode::NameTaken, advice));
        }
        sleep(NAME_TICK).await;
    }
    Ok(())
}

/// A client whose key is proved, on its way to a tunnel.
struct Guest {
    carrier: CarrierIo,
    acceptor: Acceptor,
    chunks: std::collections::VecDeque<Bytes>,
    key: PublicKey,
    from: IpAddr,
}

impl Guest {
    /// What the client wants. What it sent behind that stays unread.
    async fn hello(&mut self) -> Result<Hello, Unwelcome> {
        loop {
            match self.advance().await? {
                Progress::Hello(hello) => return Ok(hello),
                Progress::More => {}
                Progress::Complete => return Err(Unwelcome::TimedOut),
            }
        }
    }

    /// Feeds the acceptor until it has something to say.
    async fn advance(&mut self) -> Result<Progress, Unwelcome> {
        match self.acceptor.poll()? {
            Progress::More => {}
            progress => return Ok(progress),
        }
        if let Some(chunk) = self.chunks.pop_front() {
            self.acceptor.handle_input(chunk);
            return Ok(self.acceptor.poll()?);
        }
        let mut plaintext = Vec::new();
        let read = poll_fn(|cx| match self.carrier.poll_read(cx, &mut plaintext) {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        });
        let result = read.await;
        self.chunks.extend(plaintext);
        match result {
            Err(_) if !self.chunks.is_empty() => Ok(Progress::More),
            result => result.map(|()| Progress::More).map_err(Unwelcome::from),
        }
    }

    async fn request(&mut self) -> Result<(), Unwelcome> {
        loop {
            match self.advance().await? {
                Progress::Complete => return Ok(()),
                Progress::More => {}
                Progress::Hello(_) => return Err(Unwelcome::TimedOut),
            }
        }
    }

    /// Tells the client why not, as far as it can understand.
    fn send_off(mut self, error: Unwelcome) -> Unwelcome {
        let refusal = match &error {
            Unwelcome::Refused(refusal) => Some(refusal.clone()),
            Unwelcome::Accept(AcceptError::Hello(error)) => error.refusal(),
            _ => None,
        };
        if let Some(refusal) = refusal
            && self.carrier.push(&encode_refusal(&refusal)).is_ok()
        {
            linger(self.carrier);
        }
        error
    }

    /// Waits for the numbers, and hands the carrier to its tunnel.
    async fn settle(mut self, context: &Arc<Context>, place: Place) -> Result<(), Unwelcome> {
        let deadline = Instant::now() + NUMBERS_GRACE;
        timeout_at(deadline, self.request()).await.map_err(|_| Unwelcome::TimedOut)??;
        let Some(request) = self.acceptor.into_request() else { return Err(Unwelcome::TimedOut) };
        let (id, entry) = match place {
            Place::Existing(id, entry) => (id, entry),
            Place::New { user, own, instance, limit } => {
                start_tunnel(context, user, own, instance, self.from, limit)?
            }
        };
        entry.set_from(self.from);
        attach(&entry, id, request, self.carrier).await;
        Ok(())
    }
}

async fn attach(entry: &Entry, id: TunnelId, request: AttachRequest, carrier: CarrierIo) {
    let (request, carrier) = (Box::new(request), Box::new(carrier));
    entry.handle.send(Command::Attach { id, request, carrier }).await;
}

/// Makes a tunnel and the task that drives it.
fn start_tunnel(
    context: &Arc<Context>,
    user: PublicKey,
    own: PublicKey,
    instance: Instance,
    from: IpAddr,
    limit: u64,
) -> Result<(TunnelId, Entry), Unwelcome> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| std::io::Error::other("no randomness"))?;
    let id = TunnelId(id);
    let (handle, commands) = channel();
    info!("tunnel {id}: new, for key {} from {from}", user.fingerprint());
    let entry = Entry::new(handle.clone(), user, own, instance, from, limit);
    let config = eternaltcp_proto::Config { tunnel_limit: limit, ..context.tunnel.clone() };
    let role = ServerRole::new(Arc::clone(context), id, entry.clone());
    let tunnel = Tunnel::new(Side::Server, config);
    let driver = Driver::new(tunnel, role, commands, Arc::clone(&entry.shared));
    context.registry.insert(id, entry.clone());
    let context = Arc::clone(context);
    tokio::spawn(async move {
        driver.run().await;
        context.registry.remove(id);
        info!("tunnel {id}: over");
    });
    Ok((id, entry))
}
