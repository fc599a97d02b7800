//! Listeners of an earlier process, and their records.

use std::io;
use std::os::fd::OwnedFd;

use eternaltcp_sys::readable;
use socket2::SockRef;
use tokio::io::unix::AsyncFd;

use super::{Listener, SocketFile};
use crate::address::{Listen, ListenHost};
use crate::net::slots::Slots;
use crate::net::stream::Stream;
use crate::recovery::{Recovery, RemainingListener};
use crate::store::SocketMark;
use crate::store::{KeptListener, ListenerOwner, ListenerPurpose, ListenerRule, keep_listener};

impl Listener {
    /// Listens with the sockets that an earlier process has left, or else with those that `bind`
    /// returns, which are kept for the next process.
    pub(super) fn recover_or(
        recovery: &mut Recovery,
        purpose: ListenerPurpose,
        listen: &Listen,
        slots: Slots,
        bind: impl FnOnce(Slots) -> io::Result<Self>,
    ) -> io::Result<Self> {
        let text = listen.to_string();
        if let Some(found) = recovery.take_listener(purpose, &text) {
            let rule = ListenerRule { purpose, text, file: found.file, owner: None };
            return Self::recovered(listen, found, slots, rule);
        }
        let listener = bind(slots)?;
        let file = listener.file.as_ref().map(SocketFile::id);
        let rule = ListenerRule { purpose, text, file, owner: None };
        let sockets: Vec<_> = listener.sockets.iter().map(|socket| socket.get_ref()).collect();
        let kept = keep_listener(&rule, &sockets);
        if let (ListenerPurpose::Transparent, Some(number)) =
            (purpose, kept.first().map(KeptListener::number))
        {
            // An accepted connection has the local address of another machine, and inherits the
            // mark.
            sockets.iter().for_each(|socket| SocketMark::Redirected(number).set(socket));
        }
        Ok(Self { _kept: kept, rule: Some(rule), ..listener })
    }

    /// Listens with the sockets that an earlier process has left under this text, or else with those
    /// that are given. Returns `None` if there are none.
    pub(super) fn recover_or_take(
        recovery: &mut Recovery,
        purpose: ListenerPurpose,
        text: &str,
        given: Vec<std::net::TcpListener>,
        slots: Slots,
    ) -> io::Result<Option<Self>> {
        // Its parts are the addresses of its sockets.
        let at = Listen::Host(ListenHost::Any, 0);
        let rule = ListenerRule { purpose, text: text.to_owned(), file: None, owner: None };
        if let Some(found) = recovery.take_listener(purpose, text) {
            return Self::recovered(&at, found, slots, rule).map(Some);
        }
        let Some(listener) = Self::take(&at, given, slots)? else { return Ok(None) };
        let sockets: Vec<_> = listener.sockets.iter().map(|socket| socket.get_ref()).collect();
        let kept = keep_listener(&rule, &sockets);
        Ok(Some(Self { _kept: kept, rule: Some(rule), ..listener }))
    }

    /// Keeps another socket, with another file, in place of its own.
    pub(super) fn keep_again(&mut self, socket: &AsyncFd<OwnedFd>, file: &SocketFile) {
        if let Some(rule) = &mut self.rule {
            rule.file = Some(file.id());
            self._kept = keep_listener(rule, &[socket.get_ref()]);
        }
    }

    /// Keeps the socket as the listener of a session that was requested at `listen`.
    pub(crate) fn keep_remote(&mut self, listen: &Listen, owner: ListenerOwner) {
        let rule = ListenerRule {
            file: self.file.as_ref().map(SocketFile::id),
            ..ListenerRule::remote(listen, owner)
        };
        let sockets: Vec<_> = self.sockets.iter().map(|socket| socket.get_ref()).collect();
        // The record of its previous owner is cleared after that.
        self._kept = keep_listener(&rule, &sockets);
        self.rule = Some(rule);
    }

    pub(crate) fn recovered(
        listen: &Listen,
        found: RemainingListener,
        slots: Slots,
        rule: ListenerRule,
    ) -> io::Result<Self> {
        let mut listener = Self::new(listen.clone(), slots);
        if let (Listen::Unix(path), Some(id)) = (listen, found.file) {
            listener.file = Some(SocketFile::recovered(path, id));
        }
        for socket in found.sockets {
            if let Some(address) = SockRef::from(&socket).local_addr()?.as_socket() {
                listener.at = listener.at.with_port(address.port());
                listener.addresses.push(address);
            }
            listener.sockets.push(readable(socket)?);
        }
        let accepted = found.accepted.into_iter().filter_map(|it| Stream::recovered(it).ok());
        listener.accepted = accepted.collect();
        Ok(Self { _kept: found.kept, rule: Some(rule), ..listener })
    }
}
