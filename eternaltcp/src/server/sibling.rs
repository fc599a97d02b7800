//! The previous server, which is being drained and has the same port.
//!
//! The kernel gives each new connection to one of them. A tunnel that is unknown here may belong to
//! the other server, so its client is told to try again. The other server answers a client without
//! a tunnel in the same way.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::fstat;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tracing::info;

/// The kernel's lists of sockets, in which listening ones come first (proc_pid_net(5)).
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The state of a listening socket there.
const LISTENING: &str = "0A";

/// Consecutive checks without the other server after which it counts as gone. One check may miss a
/// socket: the kernel writes its table in pieces, and sockets change between them.
const LOOKS: u32 = 2;

/// The existence of such a server.
#[derive(Debug)]
pub(super) struct Sibling {
    /// The number of further checks that must not find the other server; 0 if it is gone, or never
    /// existed.
    looks_left: AtomicU32,
    /// The inodes of this server's own listening sockets.
    own: Vec<u64>,
}

impl Sibling {
    /// Creates the state without another server.
    pub(super) fn none() -> Self {
        Self { looks_left: AtomicU32::new(0), own: Vec::new() }
    }

    /// Creates the state with another server beside these listeners.
    pub(super) fn beside(listeners: &[TcpListener]) -> Self {
        let own = listeners.iter().filter_map(|it| fstat(it.as_fd()).ok()).map(|it| it.st_ino);
        let own = own.collect();
        Self { looks_left: AtomicU32::new(LOOKS), own }
    }

    pub(super) fn is_there(&self) -> bool {
        self.looks_left.load(Ordering::Relaxed) != 0
    }

    /// Checks whether it still exists. Must be called each second.
    pub(super) async fn look(&self) {
        if !self.is_there() {
            return;
        }
        let own = self.own.clone();
        let look = spawn_blocking(move || listening().is_ok_and(|all| are_alone(&all, &own)));
        self.note(look.await.unwrap_or(false));
    }

    /// Counts a check.
    fn note(&self, is_alone: bool) {
        let left = if is_alone { self.looks_left.load(Ordering::Relaxed) - 1 } else { LOOKS };
        self.looks_left.store(left, Ordering::Relaxed);
        if left == 0 {
            info!("the previous server has ended: only this one has the port now");
        }
    }
}

/// Returns the address and the inode of every listening socket.
///
/// # Errors
/// A table cannot be read to its end, for example without a free descriptor.
fn listening() -> io::Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for table in TABLES {
        let file = match fs::File::open(table) {
            // This system has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).lines().skip(1) {
            match parse(&line?) {
                Some(socket) => all.push(socket),
                None => break,
            }
        }
    }
    Ok(all)
}

/// Returns whether no other socket listens at an address of the sockets with these inodes. Returns
/// `false` also if one of these is not in the list, because the list is incomplete then.
fn are_alone(listening: &[(String, u64)], own: &[u64]) -> bool {
    let (ours, others): (Vec<_>, Vec<_>) =
        listening.iter().partition(|(_, number)| own.contains(number));
    let is_whole = own.iter().all(|own| ours.iter().any(|(_, number)| number == own));
    is_whole && !ours.iter().any(|(at, _)| others.iter().any(|(other, _)| other == at))
}

/// Returns the address and the inode of a listening socket; `None` for another one.
fn parse(line: &str) -> Option<(String, u64)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let is_listening = *fields.get(3)? == LISTENING;
    let number = fields.get(9)?.parse().ok()?;
    is_listening.then(|| (fields[1].to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::bind_carriers;
    use crate::net::socket::Mptcp;
    use eternaltcp_sys::testport::until;
    use socket2::SockRef;

    #[tokio::test]
    async fn a_port_is_shared_with_who_allows_it_for_as_long_as_that_listens() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let bind = |address, is_beside| bind_carriers(address, Mptcp::Off, None, is_beside);
            let old = bind(address.parse().unwrap(), false).unwrap();
            let address = old.local_addr().unwrap();
            assert!(bind(address, true).is_err(), "it serves");
            SockRef::from(&old).set_reuse_port(true).unwrap();
            assert!(bind(address, false).is_err());
            let new = bind(address, true).unwrap();
            let sibling = Sibling::beside(std::slice::from_ref(&new));
            sibling.look().await;
            assert!(sibling.is_there());
            drop(old);
            until("the end of the old server", async || {
                sibling.look().await;
                !sibling.is_there()
            })
            .await;
        }
        assert!(!Sibling::none().is_there());
    }

    #[test]
    fn a_server_is_gone_once_two_whole_looks_in_a_row_do_not_see_it() {
        let table = |numbers: &[u64]| -> Vec<_> {
            numbers.iter().map(|number| ("0100007F:1F90".to_owned(), *number)).collect()
        };
        assert!(are_alone(&table(&[1]), &[1]));
        assert!(!are_alone(&table(&[1, 2]), &[1]), "another has the address");
        for not_whole in [&[][..], &[2]] {
            assert!(!are_alone(&table(not_whole), &[1]), "its own socket was missed");
        }
        let sibling = Sibling { looks_left: AtomicU32::new(LOOKS), own: vec![1] };
        for is_alone in [true, false, true] {
            sibling.note(is_alone);
            assert!(sibling.is_there());
        }
        sibling.note(true);
        assert!(!sibling.is_there());
    }
}
