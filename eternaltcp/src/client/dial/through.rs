//! The path through a proxy: the connection to it, and the request.

use tokio::net::TcpStream;

use super::attempt::Attempts;
use super::{DialAddress, DialError};
use crate::address::ServerAddress;
use crate::client::Proxy;

/// The maximum number of addresses of a server that are requested from a proxy that takes only
/// addresses.
const MAX_ADDRESSES: usize = 4;

impl Attempts {
    /// Makes a connection to the server of `candidate`, whose address is that of `proxy`.
    pub(super) async fn connect_through(
        &self,
        proxy: &Proxy,
        candidate: DialAddress,
    ) -> Result<TcpStream, DialError> {
        let server = self.common.servers.at(candidate.server);
        let mut targets = self.targets(proxy, server).await?.into_iter();
        let mut target = targets.next().unwrap_or_else(|| server.clone());
        loop {
            let mut stream = self.connect(candidate).await?;
            match proxy.connect(&mut stream, &target).await {
                Ok(()) => return Ok(stream),
                // It may reach another address of the server.
                Err(refusal) => match targets.next() {
                    Some(next) => target = next,
                    None => return Err(DialError::Proxy(proxy.to_string(), refusal)),
                },
            }
        }
    }

    /// Returns the targets that are requested from the proxy: the server by its name, or each of
    /// its addresses.
    async fn targets(
        &self,
        proxy: &Proxy,
        server: &ServerAddress,
    ) -> Result<Vec<ServerAddress>, DialError> {
        if !proxy.needs_address() {
            return Ok(vec![server.clone()]);
        }
        let addresses = self.common.names.resolve(server).await?;
        let targets = addresses.into_iter().take(MAX_ADDRESSES);
        Ok(targets.map(|it| ServerAddress { host: it.ip().to_string(), port: it.port() }).collect())
    }
}
