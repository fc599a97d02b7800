//! Changes of links, addresses and routes, as rtnetlink reports them (rtnetlink(7)).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with,
};
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::readable;

/// The netlink family of routes: number 0 (linux/netlink.h).
pub(super) const NETLINK_ROUTE: Option<Protocol> = None;

/// The multicast groups, as bits (`RTNLGRP_*` less one, linux/rtnetlink.h):
/// links; addresses, routes and rules of IPv4; the same of IPv6.
const GROUPS: u32 = bit(1) | bit(5) | bit(7) | bit(8) | bit(9) | bit(11) | bit(19);

/// The maximum number of messages that are taken by one call; if more are left, the next call
/// returns at once.
const MAX_MESSAGES: usize = 1024;

const fn bit(group: u32) -> u32 {
    1 << (group - 1)
}

/// Reports when links, addresses, routes or rules of this machine (of the network namespace in
/// which it was made) may have changed. It does not report what changed: look again.
#[derive(Debug)]
pub struct NetworkWatch {
    socket: AsyncFd<OwnedFd>,
}

impl NetworkWatch {
    /// Starts watching. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system has no descriptor left, or a sandbox forbids netlink.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, NETLINK_ROUTE)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self { socket: readable(socket)? })
    }

    /// Waits for a change. Changes since the last call count as one; there is no delay to gather
    /// them. Cancel-safe. If netlink fails permanently, it logs a warning and never returns.
    pub async fn changed(&mut self) {
        if let Err(error) = self.next().await {
            warn!("changes of the network are not seen any more: {error}");
            std::future::pending().await
        }
    }

    async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(is_changed) = ready.try_io(|socket| drain(socket.get_ref()))
                && is_changed?
            {
                return Ok(());
            }
        }
    }
}

/// Discards the waiting messages. Returns whether there was any; messages that the kernel had no
/// room for (`ENOBUFS`) count.
fn drain(socket: &OwnedFd) -> io::Result<bool> {
    // Reading one byte of a datagram discards the rest.
    let mut byte = [0_u8; 1];
    let mut is_changed = false;
    for _ in 0..MAX_MESSAGES {
        match recv(socket, &mut byte[..], RecvFlags::DONTWAIT) {
            Ok(_) | Err(rustix::io::Errno::NOBUFS) => is_changed = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if is_changed => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(is_changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testnet::{Net, ip, link};
    use std::time::Duration;

    /// Waits for a change that was made.
    async fn changed(watch: &mut NetworkWatch) {
        tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.unwrap();
    }

    /// Discards everything that is known already: the next change is a new one.
    fn discard_known(watch: &NetworkWatch) {
        while drain(watch.socket.get_ref()).is_ok() {}
    }

    #[test]
    fn an_address_a_route_and_a_link_that_goes_down_are_noticed() {
        let Some(net) = Net::new("an_address_a_route_and_a_link_that_goes_down_are_noticed") else {
            return;
        };
        net.run(|runtime| {
            link("d0");
            runtime.block_on(async {
                let mut watch = NetworkWatch::new().unwrap();
                for change in [
                    "addr add 192.0.2.7/24 dev d0",
                    "route add 198.51.100.0/24 via 192.0.2.1",
                    "route change 198.51.100.0/24 via 192.0.2.2",
                    "-6 addr add 2001:db8::7/64 dev d0 nodad",
                    "-6 route add 2001:db8:1::/64 via 2001:db8::1",
                    "rule add from 192.0.2.7 lookup 100",
                    "-6 rule add from 2001:db8::7 lookup 100",
                    "link set d0 down",
                ] {
                    discard_known(&watch);
                    ip(change);
                    changed(&mut watch).await;
                }
            });
        });
    }

    #[test]
    fn several_changes_are_one_and_none_is_made_up() {
        let Some(net) = Net::new("several_changes_are_one_and_none_is_made_up") else { return };
        net.run(|runtime| {
            ip("link add d0 type veth peer name d0x");
            runtime.block_on(async {
                let mut watch = NetworkWatch::new().unwrap();
                ip("addr add 192.0.2.7/24 dev d0");
                ip("addr add 192.0.2.8/24 dev d0");
                changed(&mut watch).await;
                let again = tokio::time::timeout(Duration::from_millis(1), watch.changed());
                assert!(again.await.is_err(), "a change was told twice");
            });
        });
    }
}
