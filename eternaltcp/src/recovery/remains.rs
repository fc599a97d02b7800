//! Everything that a process before this one has left.

use std::os::fd::OwnedFd;

use eternaltcp_proto::Side;
use eternaltcp_sys::Inherited;
use tracing::info;

use super::sockets::{self, LocalEnd};
use super::tunnel::RecoveredTunnel;
use crate::report::counted;
use crate::store::{FoundListener, KeptListener, ListenerPurpose, StoreMemory};

/// What was left and not taken so far. The tunnels come first: their records are cleared before any
/// descriptor is closed.
#[derive(Debug)]
pub(super) struct Remains {
    tunnels: Vec<RecoveredTunnel>,
    listeners: Vec<(FoundListener, OwnedFd)>,
    /// Connections that no record names.
    unnamed: Vec<OwnedFd>,
}

/// The sockets of one listener. The records come first: they are cleared before a socket is closed.
#[derive(Debug)]
pub(crate) struct RemainingListener {
    pub(crate) kept: Vec<KeptListener>,
    pub(crate) sockets: Vec<OwnedFd>,
    /// The device and the number of the file of a Unix socket.
    pub(crate) file: Option<(u64, u64)>,
    /// Connections that it had accepted, of which nothing was read.
    pub(crate) accepted: Vec<OwnedFd>,
}

impl Remains {
    pub(super) fn read(
        memory: &StoreMemory,
        mut inherited: Inherited,
        is_after_crash: bool,
    ) -> Self {
        let mut listeners = Vec::new();
        let stores = memory.recover();
        for found in memory.recover_listeners() {
            let socket = sockets::take(&mut inherited, found.descriptor, found.cookie);
            if let Some(socket) = socket {
                listeners.push((found, socket));
            }
        }
        let read = |store| RecoveredTunnel::read(store, &mut inherited, is_after_crash);
        let tunnels: Vec<_> = stores.into_iter().filter_map(read).collect();
        // Among the others is the dead process's epoll, in which sockets are registered.
        let unnamed: Vec<_> = inherited.take_rest().filter(sockets::is_connection).collect();
        let sessions: usize = tunnels.iter().map(|tunnel| tunnel.recovered.sessions.len()).sum();
        if !tunnels.is_empty() || !listeners.is_empty() {
            info!(
                "going on with {} and {}",
                counted(tunnels.len(), "tunnel", "tunnels"),
                counted(sessions, "session", "sessions")
            );
        }
        Self { tunnels, listeners, unnamed }
    }

    pub(super) fn take_client(&mut self) -> Option<RecoveredTunnel> {
        let at = self.tunnels.iter().position(|tunnel| tunnel.side() == Side::Client)?;
        Some(self.tunnels.swap_remove(at))
    }

    pub(super) fn take_servers(&mut self) -> Vec<RecoveredTunnel> {
        self.tunnels.extract_if(.., |tunnel| tunnel.side() == Side::Server).collect()
    }

    pub(super) fn take_listener(
        &mut self,
        purpose: ListenerPurpose,
        text: &str,
    ) -> Option<RemainingListener> {
        // With another purpose it has other options, and would be in the way of a new one.
        self.listeners
            .retain(|(found, _)| found.rule.text != text || found.rule.purpose == purpose);
        let is_meant = |found: &FoundListener| found.rule.text == text;
        let number = self.listeners.iter().find(|(found, _)| is_meant(found))?.0.number;
        let (mut kept, mut sockets, mut file) = (Vec::new(), Vec::new(), None);
        let of_it = |(found, _): &mut (FoundListener, OwnedFd)| found.number == number;
        for (found, socket) in self.listeners.extract_if(.., of_it) {
            file = found.rule.file;
            kept.push(found.kept);
            sockets.push(socket);
        }
        let is_untouched = purpose == ListenerPurpose::Applications;
        let accepted = if is_untouched { self.take_accepted(&sockets) } else { Vec::new() };
        Some(RemainingListener { kept, sockets, file, accepted })
    }

    /// Takes the connections that a listener had accepted, and of which nothing was read.
    fn take_accepted(&mut self, listening: &[OwnedFd]) -> Vec<OwnedFd> {
        let ends: Vec<_> = listening.iter().filter_map(LocalEnd::of).collect();
        let is_accepted = |socket: &mut OwnedFd| {
            let own = LocalEnd::of(socket);
            let is_of_it = own.is_some_and(|own| ends.iter().any(|end| end.accepts(&own)));
            is_of_it && sockets::is_unused(socket)
        };
        self.unnamed.extract_if(.., is_accepted).collect()
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.tunnels.drain(..).for_each(RecoveredTunnel::end);
    }
}
