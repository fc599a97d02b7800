//! Paths: the address and interface by which a carrier leaves this machine.

mod find;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use eternaltcp_sys::bind_to_device;

pub use find::paths_to;
pub(crate) use find::{chosen_path, is_here, other_paths, path_from};

/// A path out of this machine: `192.0.2.7 via wlan0`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NetworkPath {
    /// The source address of the carrier.
    pub(crate) source: IpAddr,
    /// The interface that has this address.
    pub(crate) interface: String,
}

impl fmt::Display for NetworkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.source, self.interface)
    }
}

/// The user's restrictions of every path; nothing by default.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Pins {
    /// The source address of every carrier.
    pub address: Option<IpAddr>,
    /// The interface of every carrier.
    pub interface: Option<String>,
    /// The family of the addresses to connect to.
    pub family: Option<Family>,
}

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Returns whether `address` has this family.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Pins {
    /// Returns whether the pins leave only one path.
    fn leave_no_choice(&self) -> bool {
        self.address.is_some() || self.interface.is_some()
    }

    /// Binds an unconnected socket to the pinned address and interface.
    ///
    /// # Errors
    /// `NotFound` if the interface does not exist, `AddrNotAvailable` if the address does not
    /// belong to this machine.
    pub(crate) fn bind(&self, socket: &Socket) -> io::Result<()> {
        if let Some(interface) = &self.interface {
            bind_to_device(socket, interface)?;
        }
        match self.address {
            Some(address) => socket.bind(&SocketAddr::new(address, 0).into()),
            None => Ok(()),
        }
    }
}

/// Connects to an address within the user's pins, as a carrier does, for a diagnosis.
///
/// # Errors
/// The pins cannot be kept, or the address does not answer.
pub async fn connect_pinned(address: SocketAddr, pins: &Pins) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    pins.bind(&socket)?;
    socket.set_nonblocking(true)?;
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// Returns the socket address of a path's source, for a carrier to `server`.
pub(crate) fn source_address(source: IpAddr, server: SocketAddr) -> SocketAddr {
    match (source, server) {
        // A link-local address is meaningless without its link.
        (IpAddr::V6(it), SocketAddr::V6(server)) if it.is_unicast_link_local() => {
            SocketAddrV6::new(it, 0, 0, server.scope_id()).into()
        }
        _ => SocketAddr::new(source, 0),
    }
}
