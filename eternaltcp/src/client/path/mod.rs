//! Paths: which address and interface a carrier leaves this machine by.

mod find;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use socket2::Socket;

use eternaltcp_sys::bind_to_device;

pub(crate) use find::{chosen_path, is_here, other_paths, path_from};

/// A way out of this machine: `192.0.2.7 via wlan0`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Path {
    /// The address that the carrier is from.
    pub(crate) source: IpAddr,
    /// The interface that has this address.
    pub(crate) interface: String,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.source, self.interface)
    }
}

/// What the user fixed of every path; nothing by default.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pins {
    /// The address that every carrier is from.
    pub address: Option<IpAddr>,
    /// The interface that every carrier leaves by.
    pub interface: Option<String>,
    /// The family of the addresses that are connected to.
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
    /// Whether `address` is of this family.
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
    /// Whether there is only one path to choose from.
    fn leave_no_choice(&self) -> bool {
        self.address.is_some() || self.interface.is_some()
    }

    /// Binds a socket that is not connected, as far as the user said.
    ///
    /// # Errors
    /// `NotFound` when the interface is not there, `AddrNotAvailable` when the
    /// address is not this machine's.
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

/// The socket address of a path's source, for a carrier to `server`.
pub(crate) fn source_address(source: IpAddr, server: SocketAddr) -> SocketAddr {
    match (source, server) {
        // An address of the link alone is nothing without its link.
        (IpAddr::V6(it), SocketAddr::V6(server)) if it.is_unicast_link_local() => {
            SocketAddrV6::new(it, 0, 0, server.scope_id()).into()
        }
        _ => SocketAddr::new(source, 0),
    }
}
