//! The way through a proxy: a connection to it, and what it is asked for.

use tokio::net::TcpStream;

use super::attempt::Attempts;
use super::{Candidate, DialError};
use crate::address::Server;
use crate::client::Proxy;

/// A proxy that takes addresses alone is asked for so many of a server.
const MAX_ADDRESSES: usize = 4;

impl Attempts {
    /// A connection to the server of `candidate`, whose address is that of `proxy`.
    pub(super) async fn connect_through(
        &self,
        proxy: &Proxy,
        candidate: Candidate,
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

    /// What the proxy is asked for: the server by its name, or each of its addresses.
    async fn targets(&self, proxy: &Proxy, server: &Server) -> Result<Vec<Server>, DialError> {
        if !proxy.needs_address() {
            return Ok(vec![server.clone()]);
        }
        let addresses = self.common.names.resolve(server).await?;
        let targets = addresses.into_iter().take(MAX_ADDRESSES);
        Ok(targets.map(|it| Server { host: it.ip().to_string(), port: it.port() }).collect())
    }
}
