//! The race over one path: all addresses of all servers.

use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;

use super::attempt::Attempts;
use super::{DialAddress, DialError, Dialed};
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
    let last = common.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let last = last.into_iter().filter(fits).collect();
    let mut lookups = JoinSet::new();
    for (server, name) in common.servers.iter().take(servers.unwrap_or(usize::MAX)).enumerate() {
        // If there is a proxy, it is the one that is dialled.
        let name = common.proxy_to(server).map_or(name, Proxy::address).clone();
        let common = Arc::clone(common);
        lookups.spawn(async move {
            let found = common.names.resolve(&name).await?;
            let found = found.into_iter().map(|address| DialAddress { server, address });
            let fitting: Vec<_> = found.filter(fits).collect();
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
    let result = race(last, lookups, |candidate| Arc::clone(&attempts).run(candidate)).await;
    let nobody = || DialError::TimedOut(attempts.common.servers.to_string());
    result.map_err(|error| error.unwrap_or_else(nobody))
}
