//! From a stranger's connection to a carrier of a tunnel.
//!
//! The order is fixed: TLS proves a key, policy judges it, and only then is a
//! tunnel looked up. Every step has a deadline.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{
    Epoch, Hello, Instance, Intent, Refusal, RefusalCode, Side, Tunnel, TunnelId,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::Context;
use super::gate::Ticket;
use super::guest::{Guest, Wanted, Wish};
use super::registry::Entry;
use super::role::ServerRole;
use super::standby::{Joiner, Seat, stand_by};
use super::unwelcome::{TurnedAway, Unwelcome};
use crate::address::canonical_ip;
use crate::driver::{Command, Driver, channel, linger};
use crate::log_limit::limited;
use eternaltcp_tls::{HandshakeError, PublicKey};

/// What a live client is heard to say this long after another came by its name
/// was not on its way before.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// How often a name that is taken is looked at again.
const NAME_TICK: Duration = Duration::from_millis(100);

/// By what a connection has its place, until it is a tunnel's carrier, or gone:
/// a refusal on its way counts too.
enum Hold {
    /// Among the strangers.
    Stranger(Ticket),
    /// Among those that stand by for its tunnel.
    Standby(Seat),
    /// Among those that have joined it: its driver has the place.
    Joined,
}

impl Hold {
    /// Its key is known.
    fn recognise(&mut self, key: &PublicKey) {
        if let Self::Stranger(ticket) = self {
            ticket.recognise(key);
        }
    }

    /// Its key is not known, or it is refused: it makes room before others.
    fn reject(&self) {
        if let Self::Stranger(ticket) = self {
            ticket.reject();
        }
    }

    /// Notes what it did wrong, if it did.
    fn judge(&self, why: &Unwelcome) {
        if let (Self::Stranger(ticket), Some(fault)) = (self, why.fault()) {
            ticket.penalise(fault);
        }
    }
}

/// Takes a connection as far as it comes.
pub(super) async fn welcome(
    context: Arc<Context>,
    stream: TcpStream,
    peer: SocketAddr,
    ticket: Ticket,
) {
    let peer = SocketAddr::new(canonical_ip(peer.ip()), peer.port());
    let mut hold = Hold::Stranger(ticket);
    let admitted = admit(&context, stream, peer.ip(), &mut hold).await;
    let Err(TurnedAway { why, carrier }) = admitted else { return };
    if matches!(why, Unwelcome::Handshake(HandshakeError::TimedOut) | Unwelcome::TimedOut) {
        let flags = "--login-grace, --signature-grace, --numbers-grace";
        context.notices.reached_by_stranger(flags, format_args!("no carrier from {peer}: {why}"));
    }
    context.log.turned_away(peer, &why);
    hold.judge(&why);
    hold.reject();
    if let Some(carrier) = carrier {
        linger(carrier).await;
    }
}

async fn admit(
    context: &Arc<Context>,
    stream: TcpStream,
    from: IpAddr,
    hold: &mut Hold,
) -> Result<(), TurnedAway> {
    let limits = &context.limits;
    let Hold::Stranger(ticket) = hold else { return Err(Unwelcome::TimedOut.into()) };
    let mut guest = Guest::meet(context, stream, from, ticket).await?;
    match user_of(context, &guest) {
        Some(user) => hold.recognise(&user),
        None => hold.reject(),
    }
    let wish = match timeout_at(Instant::now() + limits.login_grace, guest.wish()).await {
        Ok(Ok(wish)) => wish,
        Ok(Err(error)) => return Err(guest.turn_away(error)),
        Err(_) => return Err(Unwelcome::TimedOut.into()),
    };
    let hello = match wish {
        Wish::Attach(hello) => hello,
        Wish::StandBy(request) => match wait(context, &mut guest, request.tunnel, hold).await {
            Ok(Wanted::Attach(hello)) => hello,
            Ok(Wanted::Join) => return join(context, guest, request.tunnel, hold).await,
            Err(error) => return Err(guest.turn_away(error)),
        },
    };
    match place(context, &guest, &hello).await {
        Ok(place) => {
            // Where the file has the key since it was read last.
            hold.recognise(place.user());
            settle(context, guest, place).await
        }
        Err(refusal) => Err(guest.turn_away(Unwelcome::Refused(refusal))),
    }
}

/// Judges a carrier that is to stand by, and waits for its attach.
async fn wait(
    context: &Context,
    guest: &mut Guest,
    id: TunnelId,
    hold: &mut Hold,
) -> Result<Wanted, Unwelcome> {
    context.keys.refresh().await;
    let entry = existing(context, guest, id).map_err(Unwelcome::Refused)?;
    let seat = Seat::take(context, &entry, guest.from).map_err(Unwelcome::Refused)?;
    let over = seat.over();
    *hold = Hold::Standby(seat);
    stand_by(context, &entry, id, guest, &over).await
}

/// A carrier that stands by is to join the attached one: judged anew, like an
/// attach.
async fn join(
    context: &Context,
    guest: Guest,
    id: TunnelId,
    hold: &mut Hold,
) -> Result<(), TurnedAway> {
    context.keys.refresh().await;
    let entry = existing(context, &guest, id).map_err(Unwelcome::Refused)?;
    let from = guest.from;
    let Some((request, carrier)) = guest.into_join() else {
        return Err(Unwelcome::TimedOut.into());
    };
    let Hold::Standby(seat) = std::mem::replace(hold, Hold::Joined) else {
        return Err(Unwelcome::TimedOut.into());
    };
    limited!(&context.log.of(from), info, "tunnel {id}: a carrier from {from} joins");
    let joiner = Joiner::new(seat, entry.handle.clone());
    let (request, carrier) = (Box::new(request), Box::new(carrier));
    entry.handle.send(Command::Join { request, carrier, joiner }).await;
    Ok(())
}

/// Where an admitted client's carrier goes.
enum Place {
    Existing(TunnelId, Entry),
    New { user: PublicKey, own: PublicKey, instance: Instance, born: Epoch },
}

impl Place {
    /// Whose it is.
    fn user(&self) -> &PublicKey {
        match self {
            Self::Existing(_, entry) => &entry.user,
            Self::New { user, .. } => user,
        }
    }
}

/// The user behind the key that was proved, as far as that is known by now:
/// before the client has said what it wants.
fn user_of(context: &Context, guest: &Guest) -> Option<PublicKey> {
    let tunnels = context.registry.user_of(&guest.key);
    tunnels
        .or_else(|| context.keys.judge(&guest.key, guest.from).is_ok().then(|| guest.key.clone()))
}

/// Policy first, then the tunnel.
async fn place(context: &Context, guest: &Guest, hello: &Hello) -> Result<Place, Refusal> {
    context.keys.refresh().await;
    match &hello.intent {
        Intent::Resume { tunnel } => {
            existing(context, guest, *tunnel).map(|entry| Place::Existing(*tunnel, entry))
        }
        Intent::New { enrol, instance } => {
            if !context.phase.is_open() {
                let advice = "it is to end, and takes no new clients: try later";
                return Err(Refusal::for_now(RefusalCode::Draining, advice));
            }
            context.keys.admit(&guest.key, guest.from)?;
            let own = std::str::from_utf8(enrol)
                .ok()
                .and_then(|text| PublicKey::from_openssh(text).ok())
                .ok_or_else(|| {
                    Refusal::last(RefusalCode::Version, "the tunnel's own key cannot be read")
                })?;
            let patience = hello.settings.dead_after.min(context.tunnel.dead_after) * 2 / 3;
            let born = hello.epoch;
            check_name(context, &guest.key, &own, instance, born, patience).await?;
            let (user, instance) = (guest.key.clone(), instance.clone());
            Ok(Place::New { user, own, instance, born })
        }
    }
}

/// The tunnel of this id, for a client that proved its key and whose user's key
/// is admitted still.
fn existing(context: &Context, guest: &Guest, id: TunnelId) -> Result<Entry, Refusal> {
    let entry = context.registry.find(id, &guest.key).ok_or_else(|| {
        if context.sibling.is_there() {
            let advice = "the server before this one is being drained, and may have the tunnel";
            return Refusal::for_now(RefusalCode::Draining, advice);
        }
        Refusal::last(RefusalCode::TunnelUnknown, "its sessions cannot be resumed")
    })?;
    context.keys.readmit(&entry.user, guest.from)?;
    Ok(entry)
}

/// A client that starts anew ends its own ghost. One whose name a live client
/// of the same boot has is refused, once that other was heard. One that is heard
/// and of another boot is another machine, however equal its id is: a clone, or a
/// container of the same image. All within `patience`, in which the client hears
/// nothing.
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
            if start.elapsed() >= ON_ITS_WAY {
                heard_before.entry(id).or_insert(heard);
            }
            is_in_doubt |= !is_heard;
        }
        if !is_in_doubt {
            return Ok(());
        }
        sleep(NAME_TICK).await;
    }
}

/// Waits for the numbers, and hands the carrier to its tunnel.
async fn settle(context: &Arc<Context>, mut guest: Guest, place: Place) -> Result<(), TurnedAway> {
    let deadline = Instant::now() + context.limits.numbers_grace;
    timeout_at(deadline, guest.request()).await.map_err(|_| Unwelcome::TimedOut)??;
    let found = match place {
        Place::Existing(id, entry) => Ok((id, entry)),
        Place::New { user, own, instance, born } => {
            start_tunnel(context, user, own, instance, born, guest.from)
        }
    };
    let (id, entry) = match found {
        Ok(found) => found,
        Err(why) => return Err(guest.turn_away(why)),
    };
    entry.set_from(guest.from);
    let Some((request, carrier)) = guest.into_request() else {
        return Err(Unwelcome::TimedOut.into());
    };
    let (request, carrier) = (Box::new(request), Box::new(carrier));
    entry.handle.send(Command::Attach { id, request, carrier }).await;
    Ok(())
}

/// Makes a tunnel and the task that drives it.
fn start_tunnel(
    context: &Arc<Context>,
    user: PublicKey,
    own: PublicKey,
    instance: Instance,
    born: Epoch,
    from: IpAddr,
) -> Result<(TunnelId, Entry), Unwelcome> {
    // Its carrier's place for as long as it lives: sessions cannot take it.
    let slot = context.slots.of_key(&user).try_take_for_tunnel().ok_or_else(|| {
        let advice = "the server has no descriptors left for this key: try later";
        Unwelcome::Refused(Refusal::for_now(RefusalCode::LimitReached, advice))
    })?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| std::io::Error::other("no randomness"))?;
    let id = TunnelId(id);
    let (handle, commands) = channel(context.limits.max_waiting);
    let fingerprint = user.fingerprint();
    let entry = Entry::new(handle, user, own, instance, from, born);
    let entry = context
        .registry
        .insert(id, entry, &context.limits, &context.notices)
        .map_err(Unwelcome::Refused)?;
    limited!(&context.log.of(from), info, "tunnel {id}: new, for key {fingerprint} from {from}");
    let config = eternaltcp_proto::Config { tunnel_limit: entry.limit(), ..context.tunnel.clone() };
    let role = ServerRole::new(Arc::clone(context), id, entry.clone());
    let tunnel = Tunnel::new(Side::Server, config);
    let driver = Driver::new(tunnel, role, commands, Arc::clone(&entry.shared));
    let context = Arc::clone(context);
    tokio::spawn(async move {
        driver.run().await;
        context.registry.remove(id);
        drop(slot);
        limited!(&context.log.of(from), info, "tunnel {id}: over");
    });
    Ok((id, entry))
}
