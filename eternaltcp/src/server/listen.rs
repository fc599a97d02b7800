//! Listens for a client that requests it: a session that is a listener.
//!
//! The session's local socket is one end of a pair; the listening task has the other. Whatever ends
//! the session ends the pair, and so the listener.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::listeners::{Reservation, ReserveError};
use super::log::TunnelLog;
use super::registry::TunnelEntry;
use crate::address::Listen;
use crate::audit::AuditEvent;
use crate::log_limit::limited;
use crate::net::listener::{Listener, Missing};
use crate::net::slots::Slots;
use crate::net::stream::Stream;
use crate::policy::ListenRefusal;
#[cfg(target_os = "linux")]
use crate::recovery::OwnedListener;
#[cfg(target_os = "linux")]
use crate::store::{ListenerOwner, ListenerRule, identify};
use crate::target::encode_accepted;
use eternaltcp_proto::{Cause, Reset, SessionId, TunnelId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tracing::Instrument;

/// Time for a ghost to transfer its listener, and for a listener to end.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Time for a restarted client to request the listener of its ghost.
const INHERITANCE: Duration = Duration::from_secs(5);

/// Interval at which an address that is being released is checked again.
const AGAIN: Duration = Duration::from_millis(20);

/// Interval at which the client's permission to listen is checked.
const JUDGED: Duration = Duration::from_secs(1);

/// Time in which the connections that wait at a listener are accepted before it is closed.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// The number of descriptors of a listener: its own, of which it has two for two addresses, and the
/// two of its pair.
const DESCRIPTORS: usize = 4;

/// The requesting client, and the session of the request.
#[derive(Clone, Debug)]
pub(super) struct ListenRequester {
    pub(super) tunnel: TunnelId,
    pub(super) entry: Arc<TunnelEntry>,
    pub(super) session: SessionId,
    /// The limit of its log lines.
    pub(super) log: Arc<TunnelLog>,
}

/// Listens, if the client may. The stream is the session's local socket, which already holds its
/// first line: the addresses.
pub(super) async fn listen(
    context: &Arc<Context>,
    asker: ListenRequester,
    at: &Listen,
) -> Result<Stream, Reset> {
    let parts = judge(context, &asker.entry, at)
        .map_err(|why| Reset::with_detail(Cause::NotPermitted, format!("{at}: {why}")))?;
    let places = context.slots.of_key(&asker.entry.user);
    let held = places.try_take_many(DESCRIPTORS).ok_or_else(|| {
        Reset::with_detail(Cause::LimitReached, "the server has no descriptors left for this key")
    })?;
    let (mut listener, claim) = obtain(context, &asker, at, &parts).await?;
    let failed = |error: io::Error| failed(at, &error.to_string());
    claim.set_address(listener.at().clone());
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    #[cfg(target_os = "linux")]
    if let Some(owner) = owner_of(&asker, &ours) {
        listener.keep_remote(at, owner);
    }
    let addresses: Vec<_> = listener.parts().iter().map(ToString::to_string).collect();
    ours.write_all(format!("{}\n", addresses.join(" ")).as_bytes()).await.map_err(failed)?;
    limited!(&*asker.log, info, "the session listens on {}", listener.name());
    context.audit.record(|| AuditEvent::Listening {
        client: asker.entry.audit_client(asker.tunnel),
        session: asker.session.get(),
        addresses,
    });
    for Missing { address, error } in listener.missing() {
        limited!(&*asker.log, warn, "the session does not listen on {address}: {error}");
    }
    let listening = RunningListener { context: Arc::clone(context), asker, session: ours };
    let serve = async move {
        listening.serve(listener, claim).await;
        drop(held);
    };
    tokio::spawn(serve.in_current_span());
    Ok(Stream::unix(theirs))
}

/// Returns the identity by which the next process finds a listener's session.
#[cfg(target_os = "linux")]
fn owner_of(asker: &ListenRequester, ours: &UnixStream) -> Option<ListenerOwner> {
    let pair = identify(ours)?;
    Some(ListenerOwner { tunnel: asker.tunnel, session: asker.session, pair })
}

/// Continues with the listener of a recovered session. If the address is no longer free, or
/// something is missing, the session ends.
#[cfg(target_os = "linux")]
pub(super) fn resume_listener(
    context: &Arc<Context>,
    entry: Arc<TunnelEntry>,
    log: Arc<TunnelLog>,
    found: OwnedListener,
) -> io::Result<()> {
    let OwnedListener { text, owner, pair, listener, .. } = found;
    let at: Listen = text.parse().map_err(io::Error::other)?;
    let session = pair.ok_or(io::ErrorKind::NotFound)?;
    let session = UnixStream::from_std(session.into())?;
    let slots = context.slots.of_key(&entry.user);
    let held = slots.take_many_again(DESCRIPTORS);
    let rule = ListenerRule { file: listener.file, ..ListenerRule::remote(&at, owner) };
    let listener = Listener::recovered(&at, listener, slots, rule)?;
    let most = context.limits_of(&entry.user, entry.from()).server.listeners_per_tunnel;
    let claim = context.listeners.claim(listener.at(), owner.tunnel, &entry, most);
    let claim = claim.map_err(|_| io::ErrorKind::AddrInUse)?;
    let span = entry.span.clone();
    let asker = ListenRequester { tunnel: owner.tunnel, entry, session: owner.session, log };
    let listening = RunningListener { context: Arc::clone(context), asker, session };
    let serve = async move {
        listening.serve(listener, claim).await;
        drop(held);
    };
    tokio::spawn(serve.instrument(span));
    Ok(())
}

/// Claims the address, if necessary from the client's own ghost, and binds it.
async fn obtain(
    context: &Arc<Context>,
    asker: &ListenRequester,
    at: &Listen,
    parts: &[Listen],
) -> Result<(Listener, Reservation), Reset> {
    let deadline = Instant::now() + HAND_OVER;
    let entry = &asker.entry;
    let most = context.limits_of(&entry.user, entry.from()).server.listeners_per_tunnel;
    let mut handed: Option<Listener> = None;
    loop {
        if !context.registry.has(asker.tunnel) {
            return Err(Reset::new(Cause::TunnelOver));
        }
        match context.listeners.claim(at, asker.tunnel, &asker.entry, most) {
            Ok(claim) => {
                let places = context.slots.of_key(&asker.entry.user);
                return Ok((take_or_bind(places, handed, at, parts)?, claim));
            }
            Err(ReserveError::ByGhost(coming)) => {
                handed = timeout_at(deadline, coming).await.ok().and_then(Result::ok);
            }
            Err(ReserveError::ByItself) if Instant::now() < deadline => sleep(AGAIN).await,
            Err(ReserveError::ByItself) => {
                return Err(failed(at, "it is in use by this client itself"));
            }
            Err(ReserveError::By(who)) => {
                return Err(failed(at, &format!("it is in use by {who}")));
            }
            Err(ReserveError::Full) => {
                let what = format_args!("a listener on {at} is refused");
                context.notices.reached("--max-listeners", what);
                let why = format!("{at}: the client has {most} listeners already");
                return Err(Reset::with_detail(Cause::LimitReached, why));
            }
        }
    }
}

/// Uses a transferred listener if it has the requested address: connections that were made to it
/// meanwhile are not lost.
fn take_or_bind(
    places: Slots,
    handed: Option<Listener>,
    at: &Listen,
    parts: &[Listen],
) -> Result<Listener, Reset> {
    if let Some(listener) = handed
        && listener.at() == at
        && listener.parts().iter().all(|part| parts.contains(part))
    {
        return Ok(listener);
    }
    Listener::bind_parts(at, parts, places).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => failed(at, "it is in use by another program"),
        io::ErrorKind::PermissionDenied => {
            failed(at, "the server lacks the privilege for this port: ask for one from 1024 on")
        }
        _ => failed(at, &error.to_string()),
    })
}

fn failed(at: &Listen, why: &str) -> Reset {
    Reset::with_detail(Cause::ListenFailed, format!("{at}: {why}"))
}

/// Returns the parts of an address on which the client may listen, by its key's current
/// permissions. A key that is not admitted from the client's address ends its carrier or its tunnel
/// elsewhere, not the listener.
fn judge(
    context: &Context,
    entry: &TunnelEntry,
    at: &Listen,
) -> Result<Vec<Listen>, ListenRefusal> {
    match context.keys().judge(&entry.user, entry.from()) {
        Ok(admission) => context.rules().listens.decide(&admission, at),
        Err(_) => Ok(at.parts()),
    }
}

/// A running listener.
struct RunningListener {
    context: Arc<Context>,
    asker: ListenRequester,
    /// The other end of the session's local socket.
    session: UnixStream,
}

impl RunningListener {
    /// Serves until the session ends, the key may no longer listen here, or another tunnel of the
    /// same client requests the listener. The listener of a replaced tunnel is kept for its
    /// successor: connections wait in the kernel.
    async fn serve(mut self, mut listener: Listener, mut claim: Reservation) {
        let (at, parts) = (listener.name(), listener.parts());
        let heir = tokio::select! {
            heir = &mut claim.asked => heir.ok(),
            () = accept(&self.asker, &mut listener) => None,
            () = end_of(&mut self.session) => {
                // Those of a replaced tunnel wait in the kernel for its successor.
                if !self.asker.entry.is_replaced() {
                    accept_waiting(&self.asker, &mut listener).await;
                }
                None
            }
            // A successor may have the address, and the client requests it there.
            () = self.context.phase.closed_to_sessions() => None,
            why = forbidden(&self.context, &self.asker.entry, &parts) => {
                limited!(&*self.asker.log, info, "{at}: {why}");
                None
            }
        };
        let heir = match heir {
            None if self.asker.entry.is_replaced() => {
                timeout(INHERITANCE, &mut claim.asked).await.ok().and_then(Result::ok)
            }
            heir => heir,
        };
        match heir {
            Some(heir) => {
                drop(claim);
                // If nothing waits for it any more, it is closed.
                let _ = heir.send(listener);
            }
            None => {
                drop(listener);
                drop(claim);
            }
        }
        limited!(&*self.asker.log, info, "the session no longer listens on {at}");
        self.context.audit.record(|| AuditEvent::ListeningEnded {
            client: self.asker.entry.audit_client(self.asker.tunnel),
            session: self.asker.session.get(),
            addresses: parts.iter().map(ToString::to_string).collect(),
        });
    }
}

/// Passes every connection to the tunnel, for as long as it exists.
async fn accept(asker: &ListenRequester, listener: &mut Listener) {
    loop {
        let stream = listener.accept().await;
        let target = encode_accepted(asker.session, stream.origin().as_ref());
        if !asker.entry.handle.open(stream, target, None).await {
            return;
        }
    }
}

/// Passes on the connections that wait already, because closing the listener would reset them: the
/// client takes them until this side ends the session, too.
async fn accept_waiting(asker: &ListenRequester, listener: &mut Listener) {
    // Those that waited are ready at once.
    let _ = timeout(LAST_LOOK, accept(asker, listener)).await;
}

/// Waits for the session's end; data from its client are ignored.
async fn end_of(session: &mut UnixStream) {
    let mut sink = [0; 256];
    while let Ok(1..) = session.read(&mut sink).await {}
}

/// Waits until a settled file no longer permits the client to listen on one of its addresses.
async fn forbidden(context: &Context, entry: &TunnelEntry, parts: &[Listen]) -> ListenRefusal {
    let mut ticks = interval(JUDGED);
    loop {
        ticks.tick().await;
        if !context.keys().view().is_settled(&entry.user, entry.from()) {
            continue;
        }
        let refusal = parts.iter().find_map(|part| judge(context, entry, part).err());
        if let Some(refusal) = refusal {
            return refusal;
        }
    }
}
