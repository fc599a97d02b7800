//! The claim of a serving server on its addresses, as other servers of the same user see it.
//!
//! A port that was once shared with a successor stays open to further servers of the same user,
//! because the kernel remembers `SO_REUSEPORT` for as long as anybody has the port. A server that
//! serves therefore also holds an abstract Unix socket for each address, and gives it up when it is
//! drained. A new server may share an address only if nobody claims it.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use rustix::process::{Uid, geteuid};

/// The claims of one server.
#[derive(Debug)]
pub(super) struct Claims(Mutex<ClaimedAddresses>);

#[derive(Debug)]
struct ClaimedAddresses {
    held: Vec<UnixListener>,
    /// Addresses whose socket another process has.
    missing: Vec<SocketAddr>,
}

impl Claims {
    /// Claims these addresses, as far as nobody else does.
    pub(super) fn on(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let missing = addresses.into_iter().collect();
        let claims = Self(Mutex::new(ClaimedAddresses { held: Vec::new(), missing }));
        claims.retry();
        claims
    }

    /// Returns an address that another server of this user claims.
    pub(super) fn contested(&self) -> Option<SocketAddr> {
        let user = Some(geteuid());
        self.lock().missing.iter().copied().find(|address| claimant(*address) == user)
    }

    /// Claims the addresses that another process had until now: an earlier process of this server,
    /// for example.
    pub(super) fn retry(&self) {
        let mut claimed = self.lock();
        let ClaimedAddresses { held, missing } = &mut *claimed;
        missing.retain(|address| match claim(*address) {
            Ok(listener) => {
                held.push(listener);
                false
            }
            Err(_) => true,
        });
        // Those that asked who is here have their answer already.
        held.iter().for_each(|listener| while listener.accept().is_ok() {});
    }

    /// Gives all claims up, for a successor.
    pub(super) fn give_up(&self) {
        let mut claimed = self.lock();
        (claimed.held, claimed.missing) = (Vec::new(), Vec::new());
    }

    fn lock(&self) -> MutexGuard<'_, ClaimedAddresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(address: SocketAddr) -> String {
    format!("eternaltcp/serving/{}/{address}", geteuid().as_raw())
}

fn claim(address: SocketAddr) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name(address))?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Returns the user whose process holds the claim on an address. Any user could hold a socket of
/// that name.
fn claimant(address: SocketAddr) -> Option<Uid> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name(address).as_bytes()).ok()?).ok()?;
    Some(sockopt::socket_peercred(&socket).ok()?.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eternaltcp_sys::testport::HeldPort;

    #[test]
    fn an_address_is_claimed_by_one_server_until_it_gives_it_up_or_ends() {
        let held = HeldPort::take();
        let address = SocketAddr::from(([127, 0, 0, 1], held.number()));
        let other = SocketAddr::from(([127, 0, 0, 2], held.number()));
        let first = Claims::on([address]);
        assert_eq!(first.contested(), None);
        let second = Claims::on([other, address]);
        assert_eq!(second.contested(), Some(address));
        for _ in 0..300 {
            assert_eq!(second.contested(), Some(address));
            first.retry();
        }
        first.give_up();
        assert_eq!(second.contested(), None, "nobody has it");
        second.retry();
        let third = Claims::on([address]);
        assert_eq!(third.contested(), Some(address));
        first.retry();
        drop(second);
        assert_eq!(third.contested(), None);
        third.retry();
        assert_eq!(Claims::on([address]).contested(), Some(address));
    }
}
