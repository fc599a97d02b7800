//! The race over one path: all addresses of all servers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;

use super::attempt::Attempts;
use super::{Common, DialAddress, DialError, Dialed};
use crate::address::{ServerAddress, canonical_ip};
use crate::client::Proxy;
use crate::net::race::race;

/// Races over one path, to this many of the servers.
pub(super) async fn over_path(
    attempts: Attempts,
    servers: Option<usize>,
) -> Result<Dialed, DialError> {
    let attempts = Arc::new(attempts);
    let common = &attempts.common;
    let source = attempts.source();
    let family = common.pins.family;
    let fits = move |it: &DialAddress| {
        servers.is_none_or(|count| it.server < count)
            && family.is_none_or(|family| family.has(it.address.ip()))
            && source.is_none_or(|source| source.is_ipv4() == it.address.is_ipv4())
    };
    let is_new = attempts.is_new;
    let last = common.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut lookups = JoinSet::new();
    let told = told(&attempts, last.last(), &mut lookups, fits);
    let is_avoided = |it: &DialAddress| is_new && common.heritage.avoided.has(it.address);
    let last = last.into_iter().filter(|it| fits(it) && !is_avoided(it));
    let known = told.into_iter().chain(last).collect();
    for (server, name) in common.servers.iter().take(servers.unwrap_or(usize::MAX)).enumerate() {
        // If there is a proxy, it is the one that is dialled.
        let name = common.proxy_to(server).map_or(name, Proxy::address).clone();
        let common = Arc::clone(common);
        lookups.spawn(async move {
            let found = common.names.resolve(&name).await?;
            let found = found.into_iter().map(|address| DialAddress { server, address });
            let fitting: Vec<_> = found.filter(fits).collect();
            let fitting = if is_new { unavoided(&common, &name, fitting)? } else { fitting };
            match (family, source) {
                (Some(family), _) if fitting.is_empty() => {
                    Err(DialError::NoFamily(name.to_string(), family))
                }
                (_, Some(source)) if fitting.is_empty() => {
                    Err(DialError::NoAddress(name.to_string(), source))
                }
                _ => Ok(fitting),
            }
        });
    }
    let result = race(known, lookups, |candidate| Arc::clone(&attempts).run(candidate)).await;
    let nobody = || DialError::TimedOut(attempts.common.servers.to_string());
    result.map_err(|error| error.unwrap_or_else(nobody))
}

/// Leaves out the addresses of servers that are about to end, if there are others.
fn unavoided(
    common: &Common,
    name: &ServerAddress,
    found: Vec<DialAddress>,
) -> Result<Vec<DialAddress>, DialError> {
    let is_avoided = |it: &DialAddress| common.heritage.avoided.has(it.address);
    let (avoided, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_avoided);
    if others.is_empty() && !avoided.is_empty() && common.servers.are_several() {
        let why = io::Error::other("the server is about to end");
        return Err(DialError::Connect(name.to_string(), why));
    }
    Ok(if others.is_empty() { avoided } else { others })
}

/// Returns the addresses that the node has announced for itself, which are tried first. Those of
/// names come from `lookups`.
///
/// They count where carriers go to addresses: a proxy is asked for the servers that the user named.
/// The node is judged as the server over which it was reached last.
fn told(
    attempts: &Attempts,
    last: Option<&DialAddress>,
    lookups: &mut JoinSet<Result<Vec<DialAddress>, DialError>>,
    fits: impl Fn(&DialAddress) -> bool + Copy + Send + Sync + 'static,
) -> Vec<DialAddress> {
    let Some(node) = &attempts.node else { return Vec::new() };
    let server = last.map_or(0, |last| last.server);
    if attempts.common.proxy_to(server).is_some() {
        return Vec::new();
    }
    let is_local = last.is_some_and(|last| last.address.ip().is_loopback());
    let fits = move |it: &DialAddress| fits(it) && may_be_told(it.address.ip(), is_local);
    let mut known = Vec::new();
    for address in &node.addresses {
        if let Ok(ip) = address.host.parse() {
            known.push(DialAddress { server, address: SocketAddr::new(ip, address.port) });
            continue;
        }
        let (common, address) = (Arc::clone(&attempts.common), address.clone());
        lookups.spawn(async move {
            let found = common.names.resolve(&address).await?;
            let found = found.into_iter().map(|address| DialAddress { server, address });
            Ok(found.filter(fits).collect())
        });
    }
    known.into_iter().filter(fits).collect()
}

/// Returns whether a server may send its clients to this address: to one of the client's own
/// machine only from there.
fn may_be_told(address: IpAddr, is_local: bool) -> bool {
    let address = canonical_ip(address);
    !address.is_unspecified() && !address.is_multicast() && (is_local || !address.is_loopback())
}
