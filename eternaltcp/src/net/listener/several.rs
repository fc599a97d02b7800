//! A listener with several addresses, such as those of `localhost`.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::task::Poll;

use rustix::io::Errno;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::net::TcpListener;

use crate::address::{Listen, ListenHost};
use eternaltcp_sys::interface_index;

/// A requested address that has no listener.
#[derive(Debug)]
#[non_exhaustive]
pub struct Missing {
    /// The address, with the port of the others.
    pub address: SocketAddr,
    /// The reason.
    pub error: io::Error,
}

/// The sockets of one listener.
pub(crate) struct Bound {
    pub(crate) sockets: Vec<TcpListener>,
    pub(crate) missing: Vec<Missing>,
}

/// The maximum number of ports that are tried until one is free at every address.
const NUMBERS: usize = 8;

/// Listens at every available address, on one port. If the system chooses the port, and the first
/// number is in use at another address, it chooses again.
pub(crate) fn bind_each(
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Bound> {
    let mut result = bind_once(addresses, &bind);
    for _ in 1..NUMBERS {
        let is_chosen = addresses.first().is_some_and(|address| address.port() == 0);
        let is_taken = |missing: &Missing| missing.error.kind() == io::ErrorKind::AddrInUse;
        match &result {
            Ok(bound) if is_chosen && bound.missing.iter().any(is_taken) => {
                result = bind_once(addresses, &bind);
            }
            _ => break,
        }
    }
    result
}

fn bind_once(
    addresses: &[SocketAddr],
    bind: &impl Fn(SocketAddr) -> io::Result<TcpListener>,
) -> io::Result<Bound> {
    let mut bound = Bound { sockets: Vec::new(), missing: Vec::new() };
    let mut chosen = None;
    for address in addresses {
        let mut address = *address;
        address.set_port(chosen.unwrap_or(address.port()));
        match bind(address) {
            Ok(socket) => {
                chosen = Some(socket.local_addr()?.port());
                bound.sockets.push(socket);
            }
            Err(error) => bound.missing.push(Missing { address, error }),
        }
    }
    if bound.sockets.is_empty() {
        let errors = bound.missing.into_iter().map(|missing| missing.error);
        // "In use" is more informative than "does not exist".
        let error = errors.min_by_key(is_no_address);
        return Err(error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
    }
    Ok(bound)
}

/// Returns whether an address does not belong to this machine, or its family is not supported.
pub(crate) fn is_no_address(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].contains(&errno))
}

/// Returns the addresses to listen on. A name is looked up, which may take a while.
///
/// # Errors
/// A name has no address, or a zone no interface.
pub fn listen_addresses(listen: &Listen) -> io::Result<Vec<SocketAddr>> {
    addresses_of(&listen.parts())
}

/// Returns the addresses of the parts of one listener.
pub(super) fn addresses_of(parts: &[Listen]) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for part in parts {
        match part {
            Listen::Tcp(address) => addresses.push(*address),
            Listen::Host(ListenHost::Zoned(ip, zone), port) => {
                let scope = interface_index(zone)?;
                addresses.push(SocketAddrV6::new(*ip, *port, 0, scope).into());
            }
            Listen::Host(ListenHost::Name(name), port) => {
                for found in (name.as_str(), *port).to_socket_addrs()? {
                    if !addresses.contains(&found) {
                        addresses.push(found);
                    }
                }
            }
            Listen::Host(ListenHost::Localhost | ListenHost::Any, _) => {
                addresses.extend(addresses_of(&part.parts())?);
            }
            Listen::Unix(_) => {}
        }
    }
    Ok(addresses)
}

/// Returns the first socket at which a connection waits, from `turn` on.
pub(super) async fn any_ready(
    sockets: &[AsyncFd<OwnedFd>],
    turn: usize,
) -> io::Result<(usize, AsyncFdReadyGuard<'_, OwnedFd>)> {
    poll_fn(|cx| {
        for step in 0..sockets.len() {
            let index = (turn + step) % sockets.len();
            if let Poll::Ready(ready) = sockets[index].poll_read_ready(cx) {
                return Poll::Ready(ready.map(|ready| (index, ready)));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::{Listener, bind_tcp};
    use super::*;
    use crate::net::slots::Slots;
    use eternaltcp_sys::testport::HeldPort;

    fn bind(text: &str) -> io::Result<Listener> {
        Listener::bind(&text.parse().unwrap())
    }

    fn has_ipv6() -> bool {
        std::net::TcpListener::bind("[::1]:0").is_ok()
    }

    #[tokio::test]
    async fn localhost_is_both_loopback_addresses_on_one_port() {
        if !has_ipv6() {
            eprintln!("skipped: no IPv6");
            return;
        }
        let held = HeldPort::take();
        for text in ["localhost:0".to_owned(), format!("localhost:{}", held.number())] {
            let mut listener = bind(&text).unwrap();
            let port = listener.at().port().unwrap();
            assert_ne!(port, 0);
            assert_eq!(listener.at().to_string(), format!("localhost:{port}"));
            assert_eq!(listener.name(), format!("127.0.0.1:{port} and [::1]:{port}"));
            assert_eq!(listener.missing().count(), 0);
            for host in ["127.0.0.1", "::1", "127.0.0.1", "::1"] {
                let _application = std::net::TcpStream::connect((host, port)).unwrap();
                let origin = listener.accept().await.origin().unwrap().to_string();
                assert_eq!(origin.contains("::1"), host == "::1", "{origin}");
            }
        }
    }

    #[tokio::test]
    async fn an_address_of_localhost_that_is_taken_leaves_the_other() {
        if !has_ipv6() {
            eprintln!("skipped: no IPv6");
            return;
        }
        for (taken, left) in [("127.0.0.1", "[::1]"), ("[::1]", "127.0.0.1")] {
            let held = HeldPort::take();
            let port = held.number();
            let other = std::net::TcpListener::bind(format!("{taken}:{port}")).unwrap();
            let listener = bind(&format!("localhost:{port}")).unwrap();
            assert_eq!(listener.name(), format!("{left}:{port}"));
            let missing: Vec<_> = listener.missing().collect();
            assert_eq!(missing[0].address, other.local_addr().unwrap());
            assert_eq!(missing[0].error.kind(), io::ErrorKind::AddrInUse);
            let error = bind(&format!("localhost:{port}")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "now both are taken");
        }
    }

    #[tokio::test]
    async fn any_address_means_both_families_and_a_missing_family_is_accepted() {
        let listener = bind("*:0").unwrap();
        let port = listener.at().port().unwrap();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        if has_ipv6() {
            std::net::TcpStream::connect(("::1", port)).unwrap();
            assert_eq!(listener.name(), format!("0.0.0.0:{port} and [::]:{port}"));
        }
        let none = |address: SocketAddr| match address.is_ipv6() {
            true => Err(Errno::ADDRNOTAVAIL.into()),
            false => bind_tcp(address, false),
        };
        let localhost: Listen = "localhost:0".parse().unwrap();
        let bound =
            bind_each(&addresses_of(std::slice::from_ref(&localhost)).unwrap(), none).unwrap();
        let listener = Listener::tcp(&localhost, bound, Slots::new(1, 0)).unwrap();
        assert_eq!(listener.missing().count(), 0);
        assert!(listener.name().starts_with("127.0.0.1:"));
    }

    #[tokio::test]
    async fn a_zone_is_an_interface_by_its_name_or_its_number() {
        if !has_ipv6() {
            eprintln!("skipped: no IPv6");
            return;
        }
        for zone in ["lo", "1"] {
            let listener = bind(&format!("[::1%{zone}]:0")).unwrap();
            let port = listener.at().port().unwrap();
            assert_eq!(listener.name(), format!("[::1%{zone}]:{port}"));
            std::net::TcpStream::connect(("::1", port)).unwrap();
        }
        let error = bind("[fe80::1%nowhere0]:0").unwrap_err();
        assert!(error.to_string().contains("no interface nowhere0"), "{error}");
    }

    #[test]
    fn a_unix_socket_has_no_addresses() {
        assert!(listen_addresses(&"unix:/x".parse().unwrap()).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_is_listened_on_at_its_addresses() {
        let listener = bind("localhost.localdomain:0").or_else(|_| bind("localhost:0")).unwrap();
        let port = listener.at().port().unwrap();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert!(bind("no-such-host.invalid:0").is_err());
    }
}
