//! The server before this one, which is being drained and has the same port.
//!
//! The kernel gives each new connection to one of both. A tunnel that is not known here may be the
//! other's, so its client is asked to try again; a client without a tunnel is asked that there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::fstat;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tracing::info;

/// Where the kernel lists sockets, the listening ones first (proc_pid_net(5)).
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The state of a listening socket there.
const LISTENING: &str = "0A";

/// Whether there is such a server.
#[derive(Debug)]
pub(super) struct Sibling {
    is_there: AtomicBool,
    /// The numbers of this server's own listening sockets.
    own: Vec<u64>,
}

impl Sibling {
    /// There is none.
    pub(super) fn none() -> Self {
        Self { is_there: AtomicBool::new(false), own: Vec::new() }
    }

    /// There is one beside these listeners.
    pub(super) fn beside(listeners: &[TcpListener]) -> Self {
        let own = listeners.iter().filter_map(|it| fstat(it.as_fd()).ok()).map(|it| it.st_ino);
        let own = own.collect();
        Self { is_there: AtomicBool::new(true), own }
    }

    pub(super) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    /// Looks whether it is still there. To be called each second.
    pub(super) async fn look(&self) {
        if !self.is_there() {
            return;
        }
        let own = self.own.clone();
        let look = spawn_blocking(move || TABLES.iter().any(|table| is_shared(table, &own)));
        if !look.await.unwrap_or(true) {
            self.is_there.store(false, Ordering::Relaxed);
            info!("the server before this one has ended: the port is this one's alone");
        }
    }
}

/// Whether another socket than those of these numbers listens at an address of theirs.
fn is_shared(table: &str, own: &[u64]) -> bool {
    let Ok(file) = fs::File::open(table) else { return false };
    let lines = BufReader::new(file).lines().skip(1).map_while(Result::ok);
    let listening: Vec<_> = lines.map_while(|line| parse(&line)).collect();
    let (ours, others): (Vec<_>, Vec<_>) =
        listening.iter().partition(|(_, number)| own.contains(number));
    ours.iter().any(|(at, _)| others.iter().any(|(other, _)| other == at))
}

/// The address and the number of a listening socket; `None` for another one.
fn parse(line: &str) -> Option<(String, u64)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let is_listening = *fields.get(3)? == LISTENING;
    let number = fields.get(9)?.parse().ok()?;
    is_listening.then(|| (fields[1].to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::bind_carriers;
    use crate::net::Mptcp;
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
            sibling.look().await;
            assert!(!sibling.is_there() && !Sibling::none().is_there());
        }
    }
}
