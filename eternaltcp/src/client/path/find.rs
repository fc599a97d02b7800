//! Finds paths: the one that the system would choose, and others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use if_addrs::{Interface, get_if_addrs};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use super::{NetworkPath, Pins};
use eternaltcp_sys::{bind_to_device, has_route};

/// The maximum number of other paths that are returned.
pub(super) const MAX: usize = 4;

/// Returns the path that the system would choose now for a carrier to `server`, within the user's
/// pins; `None` if it has none. Sends no packet.
pub(crate) fn chosen_path(server: SocketAddr, pins: &Pins) -> Option<NetworkPath> {
    let interfaces = interfaces();
    let source = source_for(server, |socket| pins.bind(socket)).ok()?;
    path_of(source, &interfaces)
}

/// Returns the path of a socket whose own address is `local`. For an address that no interface has
/// any more, the interface is `?`.
pub(crate) fn path_from(local: SocketAddr) -> NetworkPath {
    path_of(local, &interfaces())
        .unwrap_or_else(|| NetworkPath { source: local.ip(), interface: "?".to_owned() })
}

/// Returns whether an interface still has this address.
pub(crate) fn is_here(source: IpAddr) -> bool {
    interfaces().iter().any(|interface| interface.ip() == source)
}

/// Returns paths to `server` over other interfaces than that of `not`: one for each that is up, has
/// a usable address of the server's family, and has a route to it; at most four. Returns none if
/// the user pinned a path, and none to this machine itself. Sends no packet.
pub(crate) fn other_paths(server: SocketAddr, not: &NetworkPath, pins: &Pins) -> Vec<NetworkPath> {
    if pins.leave_no_choice() || server.ip().is_loopback() {
        return Vec::new();
    }
    let interfaces = interfaces();
    let mut paths: Vec<NetworkPath> = Vec::new();
    for interface in &interfaces {
        let name = device(interface);
        let is_candidate = interface.is_oper_up()
            && is_usable(interface.ip())
            && interface.ip().is_ipv4() == server.is_ipv4()
            && name != not.interface
            && paths.iter().all(|path| path.interface != name);
        if is_candidate && let Some(path) = path_over(server, interface, &interfaces) {
            paths.push(path);
        }
        if paths.len() == MAX {
            break;
        }
    }
    paths
}

/// Returns the paths that carriers to `server` can take now, in words: the one that the system
/// chooses within the user's pins, if there is one, and one for each other interface with a route
/// to it, at most four. Sends no packet.
#[must_use]
pub fn paths_to(server: SocketAddr, pins: &Pins) -> (Option<String>, Vec<String>) {
    let chosen = chosen_path(server, pins);
    let others = chosen.as_ref().map(|chosen| other_paths(server, chosen, pins));
    let others = others.unwrap_or_default().iter().map(ToString::to_string).collect();
    (chosen.map(|path| path.to_string()), others)
}

/// Returns a path over this interface: from the address that the system prefers on it, or else from
/// this one.
fn path_over(server: SocketAddr, interface: &Interface, all: &[Interface]) -> Option<NetworkPath> {
    let name = device(interface);
    let preferred = source_for(server, |socket| bind_to_device(socket, name));
    let preferred = preferred.ok().map(|address| address.ip()).filter(|source| {
        is_usable(*source) && all.iter().any(|it| device(it) == name && it.ip() == *source)
    });
    [preferred, Some(interface.ip())].into_iter().flatten().find_map(|source| {
        // Whether the system lets this user use it: without privileges from Linux 5.7 on.
        let bound = source_for(server, |socket| {
            bind_to_device(socket, name)?;
            socket.bind(&SocketAddr::new(source, 0).into())
        });
        let is_routed = bound.is_ok() && has_route(server.ip(), source, interface.index?).ok()?;
        is_routed.then(|| NetworkPath { source, interface: name.to_owned() })
    })
}

/// Returns the address that a socket to `server` gets after `bind`. A UDP socket is connected
/// without a packet.
fn source_for(
    server: SocketAddr,
    bind: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<SocketAddr> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    bind(&socket)?;
    socket.connect(&server.into())?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Returns the path from this address, by the interface that has it.
fn path_of(local: SocketAddr, interfaces: &[Interface]) -> Option<NetworkPath> {
    let scope = match local {
        SocketAddr::V6(local) => Some(local.scope_id()).filter(|scope| *scope != 0),
        SocketAddr::V4(_) => None,
    };
    let found = interfaces.iter().find(|interface| {
        interface.ip() == local.ip() && (scope.is_none() || interface.index == scope)
    })?;
    Some(NetworkPath { source: local.ip(), interface: device(found).to_owned() })
}

/// Returns the name of the device: that of an alias (`eth0:1`) continues after a colon.
fn device(interface: &Interface) -> &str {
    interface.name.split(':').next().unwrap_or_default()
}

/// Returns whether carriers beyond the link can use this source address.
fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => is_usable_v4(it),
        IpAddr::V6(it) => is_usable_v6(it),
    }
}

fn is_usable_v4(it: Ipv4Addr) -> bool {
    !(it.is_loopback() || it.is_link_local() || it.is_unspecified() || it.is_multicast())
}

fn is_usable_v6(it: Ipv6Addr) -> bool {
    !(it.is_loopback() || it.is_unicast_link_local() || it.is_unspecified() || it.is_multicast())
}

/// Returns all addresses of this machine; none if the system does not report them.
fn interfaces() -> Vec<Interface> {
    get_if_addrs().unwrap_or_else(|error| {
        debug!("the interfaces are not known: {error}");
        Vec::new()
    })
}
