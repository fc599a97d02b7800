//! Making a carrier: names, addresses, TCP and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{ClientConfig, StartError, Trust};
use crate::address::{Server, canonical_ip};
use crate::driver::CarrierIo;
use crate::net::prepare_carrier;
use crate::tls::{ClientTls, Connection, HandshakeError, Identity, PublicKey, TlsError, handshake};

/// An address is given this long before the next one joins the race
/// (RFC 8305, section 5: "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// One try is given this long, from name to TLS.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no carrier.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address now.
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, io::Error),
    /// No address answered.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// It took too long.
    #[error("{0} does not answer")]
    TimedOut(String),
    /// The TLS handshake failed.
    #[error("{0}: {1}")]
    Handshake(SocketAddr, HandshakeError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The server is not trusted.
    #[error("{0}")]
    Trust(String),
}

/// Makes carriers to one server.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    server: Server,
    trust: Trust,
    /// Proves the user's key: for a new tunnel.
    user: ClientTls,
    /// Proves the tunnel's own key: for a tunnel that exists.
    tunnel: ClientTls,
    tunnel_key: PublicKey,
    user_key: PublicKey,
    /// The address that worked last.
    last: Arc<Mutex<Option<SocketAddr>>>,
}

impl Dialer {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, StartError> {
        let own = Identity::generate()?;
        Ok(Self {
            server: config.server.clone(),
            trust: config.trust.clone(),
            user: ClientTls::new(&config.identity)?,
            tunnel: ClientTls::new(&own)?,
            tunnel_key: own.public_key(),
            user_key: config.identity.public_key(),
            last: Arc::default(),
        })
    }

    /// The server, as the user wrote it.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The key to enrol for the tunnel.
    pub(super) fn tunnel_key(&self) -> &PublicKey {
        &self.tunnel_key
    }

    /// The user's key.
    pub(super) fn user_key(&self) -> &PublicKey {
        &self.user_key
    }

    /// Makes one carrier; `is_new` says which key is proved.
    pub(super) async fn dial(&self, is_new: bool) -> Result<CarrierIo, DialError> {
        let deadline = Instant::now() + PATIENCE;
        let stream = timeout_at(deadline, self.connect())
            .await
            .map_err(|_| DialError::TimedOut(self.server.to_string()))??;
        let address = stream.peer_addr().map_err(|error| self.connect_error(error))?;
        prepare_carrier(&stream).map_err(|error| self.connect_error(error))?;
        let tls = if is_new { &self.user } else { &self.tunnel };
        let mut connection = Connection::client(tls)?;
        let mut incoming = BytesMut::new();
        let done = handshake(&stream, &mut connection, &mut incoming, deadline)
            .await
            .map_err(|error| DialError::Handshake(address, error))?;
        self.judge(done.peer).await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        CarrierIo::new(stream, connection, incoming).map_err(|error| self.connect_error(error))
    }

    /// Judges the server's key off the data path: it may ask the user.
    async fn judge(&self, key: PublicKey) -> Result<(), DialError> {
        let (trust, server) = (self.trust.clone(), self.server.clone());
        tokio::task::spawn_blocking(move || trust.check(&server, &key))
            .await
            .map_err(|error| DialError::Trust(format!("the server could not be judged: {error}")))?
    }

    fn connect_error(&self, error: io::Error) -> DialError {
        DialError::Connect(self.server.to_string(), error)
    }

    /// Races the address that worked last and all that the name has now.
    async fn connect(&self) -> Result<TcpStream, DialError> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut race = Race::default();
        race.add(last.into_iter().collect());
        let lookup = timeout(PATIENCE, self.resolve());
        tokio::pin!(lookup);
        let mut failed_lookup = None;
        let mut is_looked_up = false;
        loop {
            tokio::select! {
                found = &mut lookup, if !is_looked_up => {
                    is_looked_up = true;
                    match found {
                        Ok(Ok(addresses)) => race.add(interleave(addresses)),
                        Ok(Err(error)) => failed_lookup = Some(error),
                        Err(_) => failed_lookup = Some(io::ErrorKind::TimedOut.into()),
                    }
                }
                Some(stream) = race.next(), if !race.is_over() => return Ok(stream),
                else => break,
            }
            if is_looked_up && race.is_over() {
                break;
            }
        }
        let host = self.server.to_string();
        Err(match (failed_lookup, race.error) {
            (Some(error), None) => DialError::Resolve(self.server.host.clone(), error),
            (_, Some(error)) => DialError::Connect(host, error),
            (None, None) => DialError::Connect(host, io::ErrorKind::AddrNotAvailable.into()),
        })
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses = lookup_host((self.server.host.as_str(), self.server.port)).await?;
        Ok(addresses.map(|a| SocketAddr::new(canonical_ip(a.ip()), a.port())).collect())
    }
}

/// IPv6 and IPv4 in turns, beginning with the family of the first
/// (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut all: Vec<_> =
        first.into_iter().flat_map(|a| [Some(a), second.next()]).flatten().collect();
    all.extend(second);
    all
}

/// Connections tried side by side, each a little after the one before.
#[derive(Default)]
struct Race {
    waiting: std::collections::VecDeque<SocketAddr>,
    known: Vec<SocketAddr>,
    running: JoinSet<io::Result<TcpStream>>,
    error: Option<io::Error>,
}

impl Race {
    fn add(&mut self, addresses: Vec<SocketAddr>) {
        for address in addresses {
            if !self.known.contains(&address) {
                self.known.push(address);
                self.waiting.push_back(address);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// The first connection made; `None` when something failed or joined.
    /// Losing the future loses nothing: the tries go on.
    async fn next(&mut self) -> Option<TcpStream> {
        loop {
            if self.running.is_empty() {
                self.start();
            }
            tokio::select! {
                done = self.running.join_next() => match done {
                    Some(Ok(Ok(stream))) => return Some(stream),
                    Some(Ok(Err(error))) => {
                        self.error = Some(error);
                        self.start();
                    }
                    Some(Err(_)) => {}
                    None => return std::future::pending().await,
                },
                () = sleep(STAGGER), if !self.waiting.is_empty() => self.start(),
            }
            if self.is_over() {
                return None;
            }
        }
    }

    fn start(&mut self) {
        if let Some(address) = self.waiting.pop_front() {
            self.running.spawn(TcpStream::connect(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let addresses =
            ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"].map(parse).to_vec();
        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"].map(parse);
        assert_eq!(interleave(addresses), expected);
        assert_eq!(interleave(vec![parse("1.0.0.1:1")]), [parse("1.0.0.1:1")]);
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hold_up_a_live_one() {
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = dead.local_addr().unwrap();
        drop(dead);
        let mut race = Race::default();
        race.add(vec![refused, live.local_addr().unwrap()]);
        let stream = race.next().await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live.local_addr().unwrap());
    }
}
