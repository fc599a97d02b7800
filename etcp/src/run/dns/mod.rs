//! Name look-ups: each query over UDP becomes a session to the server's resolver.

#[cfg(test)]
mod body;
mod message;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp::Stream;
use eternaltcp::client::Opener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UdpSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::names::ResolvedNames;

/// The port of DNS, over UDP and TCP.
pub(super) const DNS_PORT: u16 = 53;

/// The maximum number of concurrent queries for each family; further ones are dropped, and the
/// program repeats them.
const MAX_QUERIES: usize = 64;

/// Time allowed for a query. Programs ask again after five seconds (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause of reading after it failed.
const REST: Duration = Duration::from_millis(100);

/// Answers the queries that arrive on `socket`.
pub(super) async fn serve(socket: UdpSocket, opener: Opener, names: Arc<Mutex<ResolvedNames>>) {
    let socket = Arc::new(socket);
    let places = Arc::new(Semaphore::new(MAX_QUERIES));
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!("a query cannot be read: {error}");
                sleep(REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!("too many queries at once: one from {from} is dropped");
            continue;
        };
        let query = buffer[..length].to_vec();
        let (socket, opener, names) = (Arc::clone(&socket), opener.clone(), Arc::clone(&names));
        tokio::spawn(async move {
            answer(&socket, from, &query, &opener, &names).await;
            drop(place);
        });
    }
}

async fn answer(
    socket: &UdpSocket,
    from: SocketAddr,
    query: &[u8],
    opener: &Opener,
    names: &Mutex<ResolvedNames>,
) {
    let response = match timeout(PATIENCE, ask(opener, query)).await {
        Ok(Ok(response)) => {
            if let Some((name, addresses)) = message::addresses(&response) {
                names.lock().unwrap_or_else(PoisonError::into_inner).note(&name, &addresses);
            }
            message::fit(query, response)
        }
        // The session was reset, and the log says why if that is useful.
        Ok(Err(error)) => {
            debug!("a query has no answer: {error}");
            message::failure(query)
        }
        // The program has asked again meanwhile, or given up.
        Err(_) => None,
    };
    if let Some(response) = response {
        // The sender of the query may be gone.
        let _ = socket.send_to(&response, from).await;
    }
}

/// Asks the server's resolver over TCP: each message follows its length (RFC 1035, section 4.2.2).
async fn ask(opener: &Opener, query: &[u8]) -> io::Result<Vec<u8>> {
    let (mut here, there) = UnixStream::pair()?;
    opener.carry_to_resolver(Stream::unix(there)).await;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    here.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut response = vec![0; here.read_u16().await?.into()];
    here.read_exact(&mut response).await?;
    Ok(response)
}
