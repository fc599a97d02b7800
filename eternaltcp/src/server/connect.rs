//! Connecting a session to its target.

use std::io;
use std::net::SocketAddr;

use eternaltcp_proto::{Cause, Reset};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Context;
use super::registry::Entry;
use super::resolver::resolvers;
use crate::address::Target;
use crate::policy::Verdict;
use crate::stream::Stream;
use crate::target::{Wanted, decode_target};

/// Connects what an `open` asked for, if the key may have it; a slow target
/// counts as none.
pub(super) async fn connect(
    context: &Context,
    entry: &Entry,
    payload: &[u8],
) -> Result<Stream, Reset> {
    if let Some(Wanted::Resolver) = decode_target(payload) {
        let connected = timeout(context.limits.connect_timeout, dial_resolver(context, entry));
        return connected
            .await
            .unwrap_or_else(|_| Err(Reset::with_detail(Cause::TimedOut, "the server's resolver")));
    }
    let (target, _) = read_target(context, payload)?;
    let connected = timeout(context.limits.connect_timeout, dial(context, entry, &target));
    match connected.await {
        Ok(result) => result,
        Err(_) => Err(Reset::with_detail(Cause::TimedOut, target.to_string())),
    }
}

/// The target that an `open` asks for, and whether the client named it.
pub(super) fn read_target(context: &Context, payload: &[u8]) -> Result<(Target, bool), Reset> {
    match decode_target(payload) {
        Some(Wanted::Default) => Ok((context.target.clone(), false)),
        Some(Wanted::Named(target)) => Ok((target, true)),
        // Only a server that dials has one.
        Some(Wanted::Resolver) | None => Err(Reset::new(Cause::Unsupported)),
    }
}

/// Judges a target that is not dialled, as one that is.
///
/// # Errors
/// The reset that answers it.
pub(super) async fn permit(context: &Context, entry: &Entry, target: &Target) -> Result<(), Reset> {
    match (judge(context, entry, target)?, target) {
        (true, Target::Tcp { host, port }) => {
            permitted(context, target, &resolve(host, *port).await?).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// Those of a target's addresses that may be dialled; at least one.
fn permitted(
    context: &Context,
    target: &Target,
    addresses: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Reset> {
    let decided = context.targets.decide_addresses(addresses);
    decided.map_err(|refusal| not_permitted(target, &refusal.to_string()))
}

/// Connects to the first of this machine's resolvers that may be asked and
/// answers.
async fn dial_resolver(context: &Context, entry: &Entry) -> Result<Stream, Reset> {
    let failed = |cause, why: &dyn std::fmt::Display| {
        Reset::with_detail(cause, format!("the server's resolver: {why}"))
    };
    let admission = context
        .keys
        .judge(&entry.user, entry.from())
        .map_err(|denial| failed(Cause::NotPermitted, &denial))?;
    let resolvers = resolvers().await;
    let judged = resolvers
        .iter()
        .map(|resolver| context.targets.decide_resolver(&admission, *resolver).map(|()| *resolver));
    let permitted: Vec<_> = judged.clone().flatten().collect();
    if let (true, Some(refusal)) = (permitted.is_empty(), judged.flat_map(Result::err).next()) {
        return Err(failed(Cause::NotPermitted, &refusal));
    }
    let slot = take_slot(context)?;
    let stream = first(&permitted).await.and_then(Stream::tcp);
    let stream = stream.map_err(|error| failed(cause_of(&error), &error))?;
    Ok(stream.with_slot(slot))
}

fn take_slot(context: &Context) -> Result<OwnedSemaphorePermit, Reset> {
    context.slots.try_take().ok_or_else(|| {
        Reset::with_detail(Cause::LimitReached, "the server has no descriptors left")
    })
}

async fn dial(context: &Context, entry: &Entry, target: &Target) -> Result<Stream, Reset> {
    let needs_address = judge(context, entry, target)?;
    let slot = take_slot(context)?;
    let failed =
        |error: io::Error| Reset::with_detail(cause_of(&error), format!("{target}: {error}"));
    let stream = match target {
        Target::Unix(path) => Stream::unix(UnixStream::connect(path).await.map_err(failed)?),
        Target::Tcp { host, port } => {
            let mut addresses = resolve(host, *port).await?;
            if needs_address {
                addresses = permitted(context, target, &addresses)?;
            }
            Stream::tcp(first(&addresses).await.map_err(failed)?).map_err(failed)?
        }
    };
    Ok(stream.with_slot(slot))
}

/// Judges the key again, as the file is now, and the target by its name. Says
/// whether its addresses are to be judged too.
fn judge(context: &Context, entry: &Entry, target: &Target) -> Result<bool, Reset> {
    let admission = context
        .keys
        .judge(&entry.user, entry.from())
        .map_err(|denial| not_permitted(target, &denial.to_string()))?;
    match context.targets.decide_name(&admission, target) {
        Verdict::Allowed => Ok(false),
        Verdict::NeedsAddress => Ok(true),
        Verdict::Denied(refusal) => Err(not_permitted(target, &refusal.to_string())),
    }
}

fn not_permitted(target: &Target, why: &str) -> Reset {
    Reset::with_detail(Cause::NotPermitted, format!("{target}: {why}"))
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Reset> {
    match lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(Reset::with_detail(Cause::NotFound, format!("{host}: {error}"))),
    }
}

/// Connects to the first address that answers.
async fn first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        _ => Cause::Unreachable,
    }
}
