//! For tests: port numbers that stay what a test takes them for.
//!
//! Other tests of the same process open and close sockets all the time. A number that one socket
//! has at one address may be another's at the next address, and a number that was given back may
//! be another's at once. A closed descriptor is no closed socket either: a program that another
//! thread is about to start has a copy until it runs.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// The longest time that a program may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// A port number that nobody else is given, at any address, as long as this value lives.
///
/// Nobody listens there until the test does. Whoever names the number, and sets `SO_REUSEADDR`
/// as every listener of the program and of the library does, can.
#[derive(Debug)]
pub struct HeldPort(Socket);

impl HeldPort {
    /// Takes a number that is free everywhere.
    ///
    /// # Panics
    /// When none is.
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

    /// The number.
    ///
    /// # Panics
    /// Never: the socket is bound.
    #[must_use]
    pub fn number(&self) -> u16 {
        let address = self.0.local_addr().ok().and_then(|address| address.as_socket());
        address.expect("it is bound").port()
    }
}

/// An address on loopback at which connections are refused until the process ends.
///
/// # Panics
/// When there is no free number.
#[must_use]
pub fn refused() -> SocketAddr {
    let port = HeldPort::take();
    let address = (Ipv4Addr::LOCALHOST, port.number()).into();
    std::mem::forget(port);
    address
}

/// Waits for what follows from closing a socket, at the latest when every program that was being
/// started at that moment runs.
///
/// # Panics
/// When it does not follow in time.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same on a thread that may block.
///
/// # Panics
/// When it does not follow in time.
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
