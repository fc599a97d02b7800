//! Turns a stranger's connection into a carrier of a tunnel.
//!
//! The order is fixed: TLS proves a key, policy checks it, and only then is a tunnel looked up.
//! Every step has a deadline.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{
    Epoch, Hello, Instance, Intent, Refusal, RefusalCode, Side, Tunnel, TunnelId,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument;

use super::Context;
use super::accept_failure::{AcceptFailure, RejectedCarrier};
use super::audited::{admitted, record_refusal};
use super::event::ServerEvent;
use super::gate::Ticket;
use super::guard::Guard;
use super::handshake::{ClientRequest, Handshake, Promotion};
use super::registry::TunnelEntry;
use super::role::ServerRole;
use super::standby::{JoinedSlot, StandbySlot, stand_by};
use crate::address::canonical_ip;
use crate::driver::{Driver, channel, linger};
use crate::log_limit::limited;
use crate::net::slots::SlotGuard;
use crate::spans;
use eternaltcp_tls::{HandshakeError, PublicKey};

/// Data of a live client that arrive this long after another client claimed its name were not in
/// flight before.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Interval at which a name in use is checked again.
const NAME_TICK: Duration = Duration::from_millis(100);

/// Takes a connection as far as possible.
pub(super) async fn accept_carrier(
    context: Arc<Context>,
    stream: TcpStream,
    peer: SocketAddr,
    ticket: Ticket,
) {
    let peer = SocketAddr::new(canonical_ip(peer.ip()), peer.port());
    let mut guard = Guard::Stranger(ticket);
    let admitted = admit(&context, stream, peer, &mut guard).await;
    let Err(RejectedCarrier { why, carrier, key }) = admitted else { return };
    if matches!(why, AcceptFailure::Handshake(HandshakeError::TimedOut) | AcceptFailure::TimedOut) {
        let flags = "--login-grace, --signature-grace, --numbers-grace";
        context.notices.reached_by_stranger(flags, format_args!("no carrier from {peer}: {why}"));
    }
    let knows = |key: &PublicKey| context.keys().knows(key, peer.ip());
    let is_known = guard.is_recognised() || key.as_ref().is_some_and(knows);
    context.log.rejected(peer, &why, is_known);
    match why.refusal() {
        Some(refusal) => {
            record_refusal(&context, peer.ip(), (key.as_ref(), is_known), &refusal);
        }
        None => context.counts.count_failed_handshake(why.word()),
    }
    guard.judge(&why);
    guard.reject();
    if let Some(carrier) = carrier {
        linger(carrier).await;
    }
}

async fn admit(
    context: &Arc<Context>,
    stream: TcpStream,
    peer: SocketAddr,
    guard: &mut Guard,
) -> Result<(), RejectedCarrier> {
    let Guard::Stranger(ticket) = guard else { return Err(AcceptFailure::TimedOut.into()) };
    let mut handshake = Handshake::perform(context, stream, peer, ticket).await?;
    match user_of(context, &handshake) {
        Some(user) => guard.recognise(&user),
        None => guard.reject(),
    }
    let request = match timeout_at(
        Instant::now() + context.rules().limits.login_grace,
        handshake.read_request(),
    )
    .await
    {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return Err(handshake.reject(error)),
        Err(_) => return Err(AcceptFailure::TimedOut.into()),
    };
    let hello = match request {
        ClientRequest::Attach(hello) => hello,
        ClientRequest::StandBy(request) => {
            match wait(context, &mut handshake, request.tunnel, guard).await {
                Ok(Promotion::Attach(hello)) => hello,
                Ok(Promotion::Join) => {
                    return join(context, handshake, request.tunnel, guard).await;
                }
                Err(error) => return Err(handshake.reject(error)),
            }
        }
    };
    match authorize(context, &handshake, &hello).await {
        Ok(destination) => {
            // The file may have gained the key since it was last read.
            guard.recognise(destination.user());
            hand_over(context, handshake, destination).await
        }
        Err(refusal) => Err(handshake.reject(AcceptFailure::Refused(refusal))),
    }
}

/// Checks a carrier that will stand by, and waits for its attach.
async fn wait(
    context: &Context,
    handshake: &mut Handshake,
    id: TunnelId,
    guard: &mut Guard,
) -> Result<Promotion, AcceptFailure> {
    context.keys().refresh().await;
    let entry = existing(context, handshake, id).map_err(AcceptFailure::Refused)?;
    let slot =
        StandbySlot::take(context, &entry, handshake.from).map_err(AcceptFailure::Refused)?;
    let over = slot.over();
    *guard = Guard::Standby(slot);
    stand_by(context, &entry, handshake, &over).await
}

/// Lets a standby carrier join the attached one: it is checked again, as at an attach.
async fn join(
    context: &Context,
    handshake: Handshake,
    id: TunnelId,
    guard: &mut Guard,
) -> Result<(), RejectedCarrier> {
    context.keys().refresh().await;
    let entry = match existing(context, &handshake, id) {
        Ok(entry) => entry,
        Err(refusal) => return Err(handshake.reject(AcceptFailure::Refused(refusal))),
    };
    let from = handshake.from;
    let Some((request, mut carrier)) = handshake.into_join() else {
        return Err(AcceptFailure::TimedOut.into());
    };
    let Guard::Standby(slot) = std::mem::replace(guard, Guard::Joined) else {
        return Err(AcceptFailure::TimedOut.into());
    };
    limited!(&context.log.of(from), info, parent: &entry.span, peer = %from, "a carrier joins");
    carrier.hold(JoinedSlot::new(slot, entry.handle.clone()));
    let (request, carrier) = (Box::new(request), Box::new(carrier));
    entry.handle.tell(ServerEvent::Join { request, carrier }).await;
    Ok(())
}

/// The destination of an admitted client's carrier.
enum Destination {
    Existing(TunnelId, TunnelEntry),
    New(NewTunnel),
}

/// A tunnel that an admitted client asks for.
struct NewTunnel {
    user: PublicKey,
    /// The name of the user's key.
    name: Option<Arc<str>>,
    own: PublicKey,
    instance: Instance,
    born: Epoch,
}

impl Destination {
    /// Returns its user's key.
    fn user(&self) -> &PublicKey {
        match self {
            Self::Existing(_, entry) => &entry.user,
            Self::New(new) => &new.user,
        }
    }
}

/// Returns the user behind the proved key, as far as it is known before the client has sent its
/// request.
fn user_of(context: &Context, handshake: &Handshake) -> Option<PublicKey> {
    let tunnels = context.registry.user_of(&handshake.key);
    tunnels.or_else(|| {
        context.keys().judge(&handshake.key, handshake.from).is_ok().then(|| handshake.key.clone())
    })
}

/// Applies policy first, then finds the tunnel.
async fn authorize(
    context: &Context,
    handshake: &Handshake,
    hello: &Hello,
) -> Result<Destination, Refusal> {
    let user = context.registry.user_of(&handshake.key).unwrap_or_else(|| handshake.key.clone());
    let keys = context.keys();
    match &hello.intent {
        // A tunnel that was admitted does not wait for a command that is slow.
        Intent::Resume { .. } => keys.refresh_again_for(&user, handshake.from).await,
        Intent::New { .. } => keys.refresh_for(&user, handshake.from).await,
    }
    match &hello.intent {
        Intent::Resume { tunnel } => {
            existing(context, handshake, *tunnel).map(|entry| Destination::Existing(*tunnel, entry))
        }
        Intent::New { enrol, instance } => {
            if !context.phase.takes_tunnels() {
                let advice = "it is about to end and takes no new clients: try later";
                return Err(Refusal::for_now(RefusalCode::Draining, advice));
            }
            let admission = context.keys().admit(&handshake.key, handshake.from);
            let admission =
                admission.inspect_err(|_| tell_place(context, &handshake.key, handshake.from))?;
            let name = admission.name;
            let own = std::str::from_utf8(enrol)
                .ok()
                .and_then(|text| PublicKey::from_openssh(text).ok())
                .ok_or_else(|| {
                    Refusal::last(RefusalCode::Version, "the tunnel's own key cannot be read")
                })?;
            let patience = hello.settings.dead_after.min(context.rules().tunnel.dead_after) * 2 / 3;
            let born = hello.epoch;
            check_name(context, &handshake.key, &own, instance, born, patience).await?;
            let (user, instance) = (handshake.key.clone(), instance.clone());
            Ok(Destination::New(NewTunnel { user, name, own, instance, born }))
        }
    }
}

/// Returns the tunnel with this id, for a client that proved its key and whose user's key is still
/// admitted.
fn existing(
    context: &Context,
    handshake: &Handshake,
    id: TunnelId,
) -> Result<TunnelEntry, Refusal> {
    let entry = context.registry.find(id, &handshake.key).ok_or_else(|| {
        if !context.phase.takes_tunnels() {
            let advice = "it is about to end, and its successor may have the tunnel";
            return Refusal::for_now(RefusalCode::Draining, advice);
        }
        if context.sibling.is_there() {
            let advice = "the previous server is being drained, and may have the tunnel";
            return Refusal::for_now(RefusalCode::Draining, advice);
        }
        Refusal::last(RefusalCode::TunnelUnknown, "its sessions cannot be resumed")
    })?;
    let readmitted = context.keys().readmit(&entry.user, handshake.from);
    readmitted.inspect_err(|_| tell_place(context, &entry.user, handshake.from))?;
    Ok(entry)
}

/// Logs which line of which file refuses a key. The client is told of no file of the server.
fn tell_place(context: &Context, key: &PublicKey, from: IpAddr) {
    let view = context.keys().view();
    let place = view.judge(key, from).err().and_then(|denial| view.place_of(&denial, key, from));
    if let Some(place) = place {
        limited!(&context.log.of(from), info, peer = %from, "the key is refused by {place}");
    }
}

/// Ends the ghost of a restarted client. Rejects a client if a live client of the same boot has its
/// name, once data have arrived from that other client. An active client of another boot is another
/// machine, even with an equal id: a clone, or a container of the same image. This takes at most
/// `patience`, during which the client gets no answer.
async fn check_name(
    context: &Context,
    user: &PublicKey,
    own: &PublicKey,
    instance: &Instance,
    born: Epoch,
    patience: Duration,
) -> Result<(), Refusal> {
    let start = Instant::now();
    let mut heard_before = BTreeMap::new();
    loop {
        let mut is_in_doubt = false;
        for (id, live) in context.registry.replace_ghosts(user, own, instance, born)? {
            let heard = live.shared.heard();
            let advice = || {
                let Instance { name, user, .. } = instance;
                let from = live.from();
                format!(
                    "{name:?} of user {user:?} is attached from {from}: end it, or give this one another --name"
                )
            };
            let is_heard = heard_before.get(&id).is_some_and(|before| *before != heard);
            if is_heard && live.instance.boot == instance.boot {
                return Err(Refusal::last(RefusalCode::NameTaken, advice()));
            }
            if !is_heard && start.elapsed() >= patience {
                return Err(Refusal::for_now(RefusalCode::NameTaken, advice()));
            }
            if start.elapsed() >= ON_ITS_WAY && !heard_before.contains_key(&id) {
                heard_before.insert(id, heard);
                // It may be quiet.
                live.handle.try_tell(ServerEvent::Probe);
            }
            is_in_doubt |= !is_heard;
        }
        if !is_in_doubt {
            return Ok(());
        }
        sleep(NAME_TICK).await;
    }
}

/// Waits for the numbers, and passes the carrier to its tunnel.
async fn hand_over(
    context: &Arc<Context>,
    mut handshake: Handshake,
    destination: Destination,
) -> Result<(), RejectedCarrier> {
    let deadline = Instant::now() + context.rules().limits.numbers_grace;
    timeout_at(deadline, handshake.read_numbers()).await.map_err(|_| AcceptFailure::TimedOut)??;
    let found = match destination {
        Destination::Existing(id, entry) => Ok((id, entry)),
        Destination::New(new) => start_tunnel(context, new, handshake.from),
    };
    let (id, entry) = match found {
        Ok(found) => found,
        Err(why) => return Err(handshake.reject(why)),
    };
    let Some((request, carrier)) = handshake.into_request() else {
        return Err(AcceptFailure::TimedOut.into());
    };
    let (request, carrier) = (Box::new(request), Box::new(carrier));
    entry.handle.tell(ServerEvent::Attach { id, request, carrier }).await;
    Ok(())
}

/// Creates a tunnel and the task that drives it.
fn start_tunnel(
    context: &Arc<Context>,
    new: NewTunnel,
    from: IpAddr,
) -> Result<(TunnelId, TunnelEntry), AcceptFailure> {
    let NewTunnel { user, name, own, instance, born } = new;
    // The descriptor of its carrier is reserved for its whole life, so that sessions cannot take
    // it.
    let slot = context.slots.of_key(&user).try_take_for_tunnel().ok_or_else(|| {
        let advice = "the server has no descriptors left for this key: try later";
        AcceptFailure::Refused(Refusal::for_now(RefusalCode::LimitReached, advice))
    })?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| std::io::Error::other("no randomness"))?;
    let id = TunnelId(id);
    let limits = context.limits_of(&user, from);
    let (handle, commands) = channel(limits.server.max_waiting);
    let span = spans::server_tunnel(id, &user.fingerprint(), name.as_deref());
    let mut entry = TunnelEntry::new(handle, user, own, instance, from, born);
    entry.name_key(name);
    entry.span = span.clone();
    let entry = context
        .registry
        .insert(id, entry, &limits.server, &context.notices)
        .map_err(AcceptFailure::Refused)?;
    limited!(&context.log.of(from), info, parent: &span, peer = %from, "tunnel made");
    context.counts.count_tunnel();
    context.audit.record(|| admitted(id, &entry));
    let config = eternaltcp_proto::Config { tunnel_limit: entry.limit(), ..limits.tunnel };
    let role = ServerRole::new(Arc::clone(context), id, Arc::new(entry.clone()));
    let tunnel = Tunnel::new(Side::Server, config);
    let driver = Driver::new(tunnel, role, commands, Arc::clone(&entry.shared));
    tokio::spawn(drive(Arc::clone(context), id, driver, Some(slot), from).instrument(span));
    Ok((id, entry))
}

/// Drives a tunnel to its end.
pub(super) async fn drive(
    context: Arc<Context>,
    id: TunnelId,
    driver: Driver<ServerRole>,
    slot: Option<SlotGuard>,
    from: IpAddr,
) {
    driver.run().await;
    context.registry.remove(id);
    drop(slot);
    limited!(&context.log.of(from), info, "tunnel over");
}
