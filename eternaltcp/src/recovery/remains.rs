//! All state that an earlier process has left.

use std::os::fd::{AsFd, OwnedFd};

use eternaltcp_proto::Side;
use eternaltcp_sys::{Inherited, cookie};
use tracing::{info, warn};

use super::KeptDrain;
use super::ended::{CRASHED, DAMAGED, EndedTunnel};
use super::sockets::{self, LocalEnd};
use super::tunnel::{RecoveredTunnel, boot_time};
use crate::net::last_answer::dismiss;
use crate::report::counted;
use crate::store::{
    DamagedTunnel, FoundListener, KeptListener, ListenerOwner, ListenerPurpose, SocketMark,
    StoreMemory,
};

/// The state that was left and not yet taken. The tunnels come first, because their records are
/// cleared before any descriptor is closed.
#[derive(Debug)]
pub(super) struct Remains {
    tunnels: Vec<RecoveredTunnel>,
    listeners: Vec<(FoundListener, OwnedFd)>,
    /// Connections without a record.
    unnamed: Vec<OwnedFd>,
    drain: Option<KeptDrain>,
    /// The tunnels that cannot be continued.
    ended: Vec<EndedTunnel>,
}

/// The sockets of one listener. The records come first, because they are cleared before a socket is
/// closed.
#[derive(Debug)]
pub(crate) struct RemainingListener {
    pub(crate) kept: Vec<KeptListener>,
    pub(crate) sockets: Vec<OwnedFd>,
    /// The device and the inode number of a Unix socket's file.
    pub(crate) file: Option<(u64, u64)>,
    /// Connections that it had accepted, from which nothing was read.
    pub(crate) accepted: Vec<OwnedFd>,
}

/// A listener that belongs to a session, or a client's end of it.
#[derive(Debug)]
pub(crate) struct OwnedListener {
    pub(crate) listener: RemainingListener,
    pub(crate) text: String,
    pub(crate) owner: ListenerOwner,
    /// The listening task's end of the socket pair.
    pub(crate) pair: Option<OwnedFd>,
    number: u32,
}

impl Remains {
    pub(super) fn read(
        memory: &StoreMemory,
        mut inherited: Inherited,
        is_after_crash: bool,
    ) -> Self {
        let (mut listeners, mut ended) = (Vec::new(), Vec::new());
        for sessions in memory.end_suspects(is_after_crash, boot_time()) {
            ended.push(EndedTunnel {
                sessions: Some(sessions),
                why: CRASHED,
                ..Default::default()
            });
            let sessions = counted(sessions, "session", "sessions");
            warn!("a tunnel was being processed in several crashes: it is ended, with {sessions}");
        }
        let stores = memory.recover(|DamagedTunnel { note, sessions }| {
            let (note, number) = (note.unwrap_or_default(), Some(sessions));
            ended.push(EndedTunnel { id: None, note, sessions: number, why: DAMAGED });
            let sessions = counted(sessions, "session", "sessions");
            warn!("the stored state of a tunnel is damaged: it is ended, with {sessions}");
        });
        for found in memory.recover_listeners() {
            let socket = sockets::take(&mut inherited, found.descriptor, found.cookie);
            if let Some(socket) = socket {
                listeners.push((found, socket));
            }
        }
        let mut tunnels = Vec::new();
        for store in stores {
            match RecoveredTunnel::read(store, &mut inherited) {
                Ok(tunnel) => tunnels.push(tunnel),
                Err(tunnel) => ended.push(tunnel),
            }
        }
        // The others include the dead process's epoll, in which sockets are registered.
        let unnamed: Vec<_> = inherited.take_rest().filter(sockets::is_connection).collect();
        let drain = memory.kept_drain().map(KeptDrain::until);
        let remains = Self { tunnels, listeners, unnamed, drain, ended };
        remains.finish_step(memory);
        let Self { tunnels, listeners, .. } = &remains;
        let sessions: usize = tunnels.iter().map(|tunnel| tunnel.recovered.sessions.len()).sum();
        if !tunnels.is_empty() || !listeners.is_empty() {
            info!(
                "continuing with {} and {}",
                counted(tunnels.len(), "tunnel", "tunnels"),
                counted(sessions, "session", "sessions")
            );
        }
        remains
    }

    /// Completes a one-time call on a socket: if the call was made, the socket is marked.
    fn finish_step(&self, memory: &StoreMemory) {
        let Some(step) = memory.unfinished_step() else { return };
        if step.is_done {
            let of_sessions = self.tunnels.iter().flat_map(|tunnel| tunnel.sockets.values());
            let is_meant =
                |socket: &&OwnedFd| cookie(socket.as_fd()).is_ok_and(|it| it == step.cookie);
            if let Some(socket) = of_sessions.chain(&self.unnamed).find(is_meant) {
                step.mark.set(socket);
            }
        }
        memory.clear_step();
    }

    pub(super) fn drain(&self) -> Option<KeptDrain> {
        self.drain
    }

    pub(super) fn take_ended(&mut self) -> Vec<EndedTunnel> {
        std::mem::take(&mut self.ended)
    }

    pub(super) fn take_client(
        &mut self,
        is_meant: impl Fn(&[u8]) -> bool,
    ) -> Option<RecoveredTunnel> {
        let is_it =
            |tunnel: &RecoveredTunnel| tunnel.side() == Side::Client && is_meant(&tunnel.note);
        let at = self.tunnels.iter().position(is_it)?;
        Some(self.tunnels.swap_remove(at))
    }

    pub(super) fn take_servers(&mut self) -> Vec<RecoveredTunnel> {
        self.tunnels.extract_if(.., |tunnel| tunnel.side() == Side::Server).collect()
    }

    /// Returns a listener with this purpose, and its address as its user wrote it.
    pub(super) fn take_any_listener(
        &mut self,
        purpose: ListenerPurpose,
    ) -> Option<(String, RemainingListener)> {
        let mut rules = self.listeners.iter().map(|(found, _)| &found.rule);
        let text = rules.find(|rule| rule.purpose == purpose)?.text.clone();
        let found = self.take_listener(purpose, &text)?;
        Some((text, found))
    }

    pub(super) fn take_listener(
        &mut self,
        purpose: ListenerPurpose,
        text: &str,
    ) -> Option<RemainingListener> {
        // A listener with another purpose has other options, and would block a new one.
        self.listeners.retain(|(found, _)| {
            found.rule.text != text || !is_replaced(found.rule.purpose, purpose)
        });
        let is_meant =
            |found: &FoundListener| found.rule.text == text && found.rule.purpose == purpose;
        let number = self.listeners.iter().find(|(found, _)| is_meant(found))?.0.kept.number();
        let (mut kept, mut sockets, mut file) = (Vec::new(), Vec::new(), None);
        let of_it = |(found, _): &mut (FoundListener, OwnedFd)| found.kept.number() == number;
        for (found, socket) in self.listeners.extract_if(.., of_it) {
            file = found.rule.file;
            kept.push(found.kept);
            sockets.push(socket);
        }
        let accepted = match purpose {
            ListenerPurpose::Applications => self.take_accepted(&sockets),
            ListenerPurpose::Transparent => self.take_redirected(number),
            _ => Vec::new(),
        };
        Some(RemainingListener { kept, sockets, file, accepted })
    }

    pub(super) fn take_owned(
        &mut self,
        purpose: ListenerPurpose,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<OwnedListener> {
        let mut all: Vec<OwnedListener> = Vec::new();
        let is_meant = |(found, _): &mut (FoundListener, OwnedFd)| {
            found.rule.purpose == purpose && is_meant(&found.rule.text)
        };
        for (found, socket) in self.listeners.extract_if(.., is_meant).collect::<Vec<_>>() {
            let (Some(owner), number) = (found.rule.owner, found.kept.number()) else { continue };
            let last = all.last_mut().filter(|last| last.number == number);
            if let Some(last) = last {
                last.listener.kept.push(found.kept);
                last.listener.sockets.push(socket);
                continue;
            }
            let (file, text) = (found.rule.file, found.rule.text);
            let (kept, sockets, accepted) = (vec![found.kept], vec![socket], Vec::new());
            let listener = RemainingListener { kept, sockets, file, accepted };
            let pair = self.take_unnamed(owner.pair.1);
            all.push(OwnedListener { text, owner, pair, listener, number });
        }
        for owned in &mut all {
            owned.listener.accepted = self.take_accepted(&owned.listener.sockets);
        }
        all
    }

    /// Takes the connection with this cookie.
    pub(super) fn take_unnamed(&mut self, known: u64) -> Option<OwnedFd> {
        let is_it = |socket: &OwnedFd| cookie(socket.as_fd()).is_ok_and(|it| it == known);
        let at = self.unnamed.iter().position(is_it)?;
        Some(self.unnamed.swap_remove(at))
    }

    /// Takes the connections that a listener had accepted, and from which nothing was read.
    fn take_accepted(&mut self, listening: &[OwnedFd]) -> Vec<OwnedFd> {
        let ends: Vec<_> = listening.iter().filter_map(LocalEnd::of).collect();
        let is_accepted = |socket: &mut OwnedFd| {
            let own = LocalEnd::of(socket);
            let is_of_it = own.is_some_and(|own| ends.iter().any(|end| end.accepts(&own)));
            let is_unread =
                matches!(SocketMark::of(&*socket), SocketMark::Fresh | SocketMark::Greeted);
            is_of_it && is_unread
        };
        self.unnamed.extract_if(.., is_accepted).collect()
    }

    /// Logs which tunnels nothing has taken: their servers are no longer those of this program.
    pub(super) fn tell_abandoned(&self) {
        for tunnel in &self.tunnels {
            let sessions = counted(tunnel.recovered.sessions.len(), "session", "sessions");
            warn!("a tunnel is ended, with {sessions}: no server of this program has it any more");
        }
    }

    /// Completes the refusals of requests that the dead process had read.
    pub(super) fn dismiss_refused(&mut self) {
        let is_refused = |socket: &mut OwnedFd| {
            matches!(SocketMark::of(&*socket), SocketMark::Refused(..) | SocketMark::Dismissed)
        };
        for socket in self.unnamed.extract_if(.., is_refused) {
            tokio::spawn(dismiss(socket));
        }
    }

    /// Takes the connections of a transparent listener, whose local addresses belong to other
    /// machines.
    fn take_redirected(&mut self, number: u32) -> Vec<OwnedFd> {
        let is_of_it =
            |socket: &mut OwnedFd| SocketMark::of(&*socket) == SocketMark::Redirected(number);
        self.unnamed.extract_if(.., is_of_it).collect()
    }
}

/// Returns whether a listener with one purpose makes room for one with another purpose on the same
/// address.
fn is_replaced(old: ListenerPurpose, new: ListenerPurpose) -> bool {
    let is_local = |it| matches!(it, ListenerPurpose::Applications | ListenerPurpose::Transparent);
    old != new && is_local(old) && is_local(new)
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.tunnels.drain(..).for_each(RecoveredTunnel::end);
    }
}
