//! The addresses at which a server listens for carriers: one, or several such as those of
//! `localhost`.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tracing::info;

#[cfg(target_os = "linux")]
use super::claim::Claims;
use super::{ServerConfig, Sibling, TICK};
use crate::net::congestion::Congestion;
use crate::net::listener::{Bound, Missing, bind_carriers, bind_each, is_no_address};
#[cfg(target_os = "linux")]
use crate::recovery::RemainingListener;
use crate::recovery::{KeptListeners, Recovery};
#[cfg(target_os = "linux")]
use crate::store::{ListenerPurpose, ListenerRule, keep_listener};

/// The sockets at which carriers arrive.
#[derive(Debug)]
pub(super) struct CarrierListeners {
    /// The records of the sockets, which are cleared before the sockets are closed.
    _kept: KeptListeners,
    sockets: Vec<TcpListener>,
    missing: Vec<Missing>,
    #[cfg(target_os = "linux")]
    claims: Claims,
    /// The socket that is checked first next time.
    turn: AtomicUsize,
}

impl CarrierListeners {
    /// Listens with the sockets of an earlier process, or as [`Self::listen`] does.
    pub(super) fn recover_or_listen(
        recovery: &mut Recovery,
        config: &ServerConfig,
        given: Vec<std::net::TcpListener>,
    ) -> io::Result<(Self, Sibling)> {
        #[cfg(target_os = "linux")]
        {
            let addresses = config.addresses().map(|it| it.to_string()).collect::<Vec<_>>();
            let (purpose, text) = (ListenerPurpose::Carriers, addresses.join(" "));
            if let Some(found) = recovery.take_listener(purpose, &text) {
                let listeners = Self::resume(found, recovery.is_draining())?;
                let sibling = listeners.find_sibling(recovery.is_draining());
                return Ok((listeners, sibling));
            }
            let (listeners, sibling) = Self::listen(config, given)?;
            let rule = ListenerRule { purpose, text, file: None, owner: None };
            Ok((Self { _kept: keep_listener(&rule, &listeners.sockets), ..listeners }, sibling))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = recovery;
            Self::listen(config, given)
        }
    }

    #[cfg(target_os = "linux")]
    fn resume(found: RemainingListener, is_draining: bool) -> io::Result<Self> {
        let sockets = found.sockets.into_iter().map(|it| TcpListener::from_std(it.into()));
        let sockets = sockets.collect::<io::Result<_>>()?;
        let listeners = Self::new(sockets, Vec::new(), found.kept)?;
        if is_draining {
            listeners.claims.give_up();
        }
        Ok(listeners)
    }

    fn new(
        sockets: Vec<TcpListener>,
        missing: Vec<Missing>,
        kept: KeptListeners,
    ) -> io::Result<Self> {
        Ok(Self {
            _kept: kept,
            #[cfg(target_os = "linux")]
            claims: Claims::on(local_addrs(&sockets)?),
            sockets,
            missing,
            turn: AtomicUsize::new(0),
        })
    }

    /// Returns the previous server, if it may still be there: then it shares the port with this
    /// one. A server that is being drained itself shares the port with its successor.
    #[cfg(target_os = "linux")]
    fn find_sibling(&self, is_draining: bool) -> Sibling {
        let is_shared = |it: &TcpListener| SockRef::from(it).reuse_port().unwrap_or_default();
        if !is_draining && self.sockets.iter().any(is_shared) {
            return Sibling::beside(&self.sockets);
        }
        Sibling::none()
    }

    /// Listens with the given sockets, if there are any. Otherwise it listens on the addresses, beside
    /// a server of the same user that is being drained, if there is one.
    pub(super) fn listen(
        config: &ServerConfig,
        given: Vec<std::net::TcpListener>,
    ) -> io::Result<(Self, Sibling)> {
        let congestion = config.congestion.as_ref();
        if !given.is_empty() {
            let sockets = given.into_iter().map(|socket| take_over(socket, congestion));
            let sockets = sockets.collect::<io::Result<_>>()?;
            let listeners = Self::new(sockets, Vec::new(), KeptListeners::default())?;
            return Ok((listeners, Sibling::none()));
        }
        let is_shared = Cell::new(false);
        let has_number = config.listen.port() != 0;
        let bind = |address| {
            let bind = |is_beside| bind_carriers(address, config.mptcp, congestion, is_beside);
            match bind(false) {
                Err(error) if has_number && error.kind() == io::ErrorKind::AddrInUse => {
                    // A server that is not drained shares the port with nobody.
                    let socket = bind(true).map_err(|_| error)?;
                    is_shared.set(true);
                    Ok(socket)
                }
                result => result,
            }
        };
        let addresses: Vec<_> = config.addresses().copied().collect();
        let Bound { sockets, missing } = bind_each(&addresses, bind)?;
        let listeners = Self::new(sockets, missing, KeptListeners::default())?;
        if !is_shared.get() {
            return Ok((listeners, Sibling::none()));
        }
        #[cfg(target_os = "linux")]
        if listeners.claims.contested().is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        info!("a server that is being drained also has the port, until it ends");
        let sibling = Sibling::beside(&listeners.sockets);
        Ok((listeners, sibling))
    }

    /// Claims the addresses that another process claimed when this server began to listen, as soon
    /// as it is gone. Never returns.
    pub(super) async fn keep_claims(&self) {
        loop {
            #[cfg(target_os = "linux")]
            self.claims.retry();
            tokio::time::sleep(TICK).await;
        }
    }

    pub(super) fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        local_addrs(&self.sockets)
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.missing.iter().filter(|missing| !is_no_address(&missing.error))
    }

    /// Allows a successor of the same user to listen there too.
    pub(super) fn share_port(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        self.claims.give_up();
        self.sockets.iter().try_for_each(|socket| SockRef::from(socket).set_reuse_port(true))
    }

    /// Returns the next connection at any of the addresses, in turn.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let count = self.sockets.len();
        let first = self.turn.load(Ordering::Relaxed);
        poll_fn(|cx| {
            for index in (0..count).map(|step| first.wrapping_add(step) % count) {
                if let Poll::Ready(accepted) = self.sockets[index].poll_accept(cx) {
                    self.turn.store(index + 1, Ordering::Relaxed);
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Prepares a socket that another program has opened, as [`bind_carriers`] does with its own.
fn take_over(
    socket: std::net::TcpListener,
    congestion: Option<&Congestion>,
) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    congestion.map_or(Ok(()), |congestion| congestion.set(&socket))?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn local_addrs(sockets: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    sockets.iter().map(TcpListener::local_addr).collect()
}

#[cfg(test)]
mod tests {
    use super::super::KeySource;
    use super::*;
    use crate::policy::AuthorizedKeys;
    use eternaltcp_sys::testport::{HeldPort, until};
    use eternaltcp_tls::Identity;

    fn listen(port: u16, hosts: &[&str]) -> io::Result<(CarrierListeners, Sibling)> {
        let keys = KeySource::Fixed(AuthorizedKeys::default());
        let mut addresses = hosts.iter().map(|host| SocketAddr::new(host.parse().unwrap(), port));
        let first = addresses.next().unwrap();
        let config = ServerConfig {
            also_listen: addresses.collect(),
            ..ServerConfig::new(first, Identity::generate().unwrap(), keys)
        };
        CarrierListeners::listen(&config, Vec::new())
    }

    fn has_ipv6() -> bool {
        let has = std::net::TcpListener::bind("[::1]:0").is_ok();
        if !has {
            eprintln!("skipped: no IPv6");
        }
        has
    }

    #[tokio::test]
    async fn carriers_are_taken_at_every_address_on_one_port() {
        if !has_ipv6() {
            return;
        }
        let (carriers, sibling) = listen(0, &["127.0.0.1", "::1"]).unwrap();
        let addresses = carriers.local_addrs().unwrap();
        assert_eq!(addresses.len(), 2);
        assert_eq!(addresses[0].port(), addresses[1].port());
        assert!(!sibling.is_there() && carriers.missing().count() == 0);
        for address in [0, 1, 1, 0].map(|which| addresses[which]) {
            let client = std::net::TcpStream::connect(address).unwrap();
            let (_, peer) = carriers.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
        // If one address is in use by another program, the other is enough.
        let held = HeldPort::take();
        let other = std::net::TcpListener::bind(("127.0.0.1", held.number())).unwrap();
        let taken = other.local_addr().unwrap();
        let (carriers, _) = listen(taken.port(), &["127.0.0.1", "::1"]).unwrap();
        assert_eq!(carriers.missing().map(|it| it.address).collect::<Vec<_>>(), [taken]);
        assert!(listen(taken.port(), &["127.0.0.1", "::1"]).is_err(), "now both are");
        drop(other);
    }

    #[tokio::test]
    async fn a_successor_has_every_address_with_who_is_drained() {
        if !has_ipv6() {
            return;
        }
        for hosts in [&["127.0.0.1", "::1"][..], &["::1"]] {
            let held = HeldPort::take();
            let port = held.number();
            let (old, _) = listen(port, hosts).unwrap();
            old.share_port().unwrap();
            let (new, sibling) = listen(port, &["127.0.0.1", "::1"]).unwrap();
            assert_eq!(new.local_addrs().unwrap().len(), 2);
            let third = || listen(port, &["127.0.0.1", "::1"]).map_err(|error| error.kind());
            assert_eq!(third().unwrap_err(), io::ErrorKind::AddrInUse, "the new one serves");
            sibling.look().await;
            assert!(sibling.is_there());
            drop(old);
            until("the end of the old server", async || {
                sibling.look().await;
                !sibling.is_there()
            })
            .await;
            assert_eq!(third().unwrap_err(), io::ErrorKind::AddrInUse, "the new one is alone");
        }
    }
}
