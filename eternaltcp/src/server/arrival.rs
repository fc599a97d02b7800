//! Connections that arrive: directly, or from a load balancer that states who connects.
//!
//! A connection from one of the networks of `--proxy-from` begins with a header of the PROXY
//! protocol. Until that was read, nobody knows whose place the connection takes among strangers, so
//! such connections have places of their own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Context;
use super::accept_failure::AcceptFailure;
use super::admit::accept_carrier;
use crate::address::canonical_address;
use crate::log_limit::limited;
use crate::net::proxy_header::{ProxyHeaderError, read_header};

/// The places of connections whose header is read.
#[derive(Clone, Debug)]
pub(super) struct Headers(Arc<Semaphore>);

impl Headers {
    /// Creates as many places as strangers have.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }
}

/// Lets a connection in, once it is known who connects.
pub(super) fn arrive(context: &Arc<Context>, stream: TcpStream, peer: SocketAddr) {
    if !context.rules().proxy_from.iter().any(|network| network.contains(peer.ip())) {
        return enter(context, stream, peer);
    }
    let Ok(place) = Arc::clone(&context.headers.0).try_acquire_owned() else {
        let what = format_args!("no PROXY header is awaited from {peer}");
        return context.notices.reached_by_stranger("--max-startups", what);
    };
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let stated = client_of(&context, stream).await;
        drop(place);
        match stated {
            Ok((stream, client)) => enter(&context, stream, client.unwrap_or(peer)),
            Err(why) => {
                let peer = canonical_address(peer);
                limited!(&context.log.of(peer.ip()), warn, %peer, "a connection is closed: {why}");
                context.counts.count_failed_handshake(why.word());
            }
        }
    });
}

/// Reads the header in the time that a stranger has for its first message.
async fn client_of(
    context: &Context,
    mut stream: TcpStream,
) -> Result<(TcpStream, Option<SocketAddr>), AcceptFailure> {
    let patience = context.rules().limits.login_grace;
    match timeout(patience, read_header(&mut stream)).await {
        Ok(Ok(client)) => Ok((stream, client)),
        Ok(Err(error)) => Err(failure(error)),
        Err(_) => Err(AcceptFailure::TimedOut),
    }
}

fn failure(error: io::Error) -> AcceptFailure {
    let header = error.get_ref().and_then(|inner| inner.downcast_ref::<ProxyHeaderError>());
    header.copied().map_or_else(|| error.into(), AcceptFailure::Header)
}

fn enter(context: &Arc<Context>, stream: TcpStream, client: SocketAddr) {
    context.gate.enter(client, |ticket| {
        let admitting = accept_carrier(Arc::clone(context), stream, client, ticket);
        tokio::spawn(admitting).abort_handle()
    });
}
