//! For tests: port numbers that no other test gets.
//!
//! Other tests of the same process open and close sockets all the time. A number that one socket
//! has at one address may belong to another at the next address, and a number that was released may
//! be reused at once. A closed descriptor is not necessarily a closed socket either: a program that
//! another thread is about to start has a copy until it runs.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// The longest time that a program may need to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Interval between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// A port number that no other socket gets, at any address, while this value lives.
///
/// Nothing listens there until the test does. A listener that names the number, and sets
/// `SO_REUSEADDR` as every listener of the program and of the library does, can use it.
#[derive(Debug)]
pub struct HeldPort(Socket);

impl HeldPort {
    /// Reserves a number that is free everywhere.
    ///
    /// # Panics
    /// No number is free.
    #[must_use]
    pub fn take() -> Self {
        Self::v6_and_v4().unwrap_or_else(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there is IPv4");
            socket.set_reuse_address(true).expect("the option exists");
            socket
                .bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())
                .expect("a number is free");
            Self(socket)
        })
    }

    fn v6_and_v4() -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(false)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
        Ok(Self(socket))
    }

    /// Returns the number.
    ///
    /// # Panics
    /// Never: the socket is bound.
    #[must_use]
    pub fn number(&self) -> u16 {
        let address = self.0.local_addr().ok().and_then(|address| address.as_socket());
        address.expect("it is bound").port()
    }
}

/// Returns an address on loopback that refuses connections until the process ends.
///
/// # Panics
/// There is no free number.
#[must_use]
pub fn refused() -> SocketAddr {
    let port = HeldPort::take();
    let address = (Ipv4Addr::LOCALHOST, port.number()).into();
    std::mem::forget(port);
    address
}

/// Waits for the effect of closing a socket, at the latest until every program that was being
/// started at that moment runs.
///
/// # Panics
/// The effect does not occur in time.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the effect of closing a socket, on a thread that may block.
///
/// # Panics
/// The effect does not occur in time.
#[track_caller]
pub fn until_blocking(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_held_number_is_free_for_the_test_alone_and_refuses_until_it_listens() {
        let port = HeldPort::take();
        let number = port.number();
        let refused = TcpStream::connect(("127.0.0.1", number)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let without_reuse = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], number));
        assert!(without_reuse.bind(&address.into()).is_err(), "no connection is given it");
        for address in ["127.0.0.1", "127.0.0.1", "::1"] {
            match TcpListener::bind((address, number)) {
                Ok(_listener) => drop(TcpStream::connect((address, number)).unwrap()),
                Err(error) => assert!(address.contains(':'), "{error}"),
            }
        }
    }
}
