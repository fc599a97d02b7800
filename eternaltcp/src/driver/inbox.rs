//! The driver's handling of commands.

use std::task::{Context, Poll};

use eternaltcp_proto::{Cause, Reset, SessionId, SessionOpenError};
use tracing::debug;

use super::entrance::Newcomer;
use super::local::refuse;
use super::{Action, CarrierEnd, Driver, DriverCommand, Role};
use crate::log_limit::limited;
use crate::net::stream::Stream;

impl<R: Role> Driver<R> {
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            self.handle_command(command);
        }
    }

    fn handle_command(&mut self, command: DriverCommand<R::Event>) {
        let now = self.clocks.round();
        match command {
            DriverCommand::Event(event) => {
                // A decision about carriers needs the newest facts.
                self.report_path(now);
                self.poll_events();
                self.role.handle_event(now, event, &mut self.tunnel);
                self.apply_actions();
            }
            DriverCommand::Open(newcomer) => {
                if self.entrance.is_waited_at() || !self.may_open() {
                    self.entrance.wait(newcomer, self.tunnel.session_count());
                } else {
                    self.open(newcomer);
                }
            }
            DriverCommand::Connected(id, result) => self.answer(id, result),
            DriverCommand::Detach(why) => self.lose(&CarrierEnd::Detached(why)),
            DriverCommand::Close(why) => self.apply(Action::Close(why)),
            DriverCommand::Stats(asked) => {
                // The requester may be gone.
                let _ = asked.send(self.tunnel.stats());
            }
            DriverCommand::Ask(ask) => self.answer_ask(ask),
        }
    }

    /// Returns whether a new session gets a share, or is refused for another reason.
    fn may_open(&self) -> bool {
        self.lifecycle.is_draining() || self.tunnel.is_closed() || self.tunnel.has_share()
    }

    /// Opens waiting sessions for which there is room now. Returns whether one was opened.
    pub(super) fn poll_entrance(&mut self) -> bool {
        self.entrance.release(&self.tunnel);
        let mut is_more = false;
        while self.entrance.is_waited_at() && self.may_open() {
            let Some(newcomer) = self.entrance.next() else { break };
            self.open(newcomer);
            is_more = true;
        }
        is_more
    }

    /// Opens a session for a local connection, or ends the connection.
    fn open(&mut self, newcomer: Newcomer) {
        let Newcomer { stream, target, asked, opened, place } = newcomer;
        let result = match self.lifecycle.is_draining() {
            false => self.tunnel.open(target.clone()),
            true => Err(SessionOpenError::Closed),
        };
        match &result {
            Ok(id) => {
                self.sockets.insert_opened(*id, stream, target, asked);
                self.entrance.handle_opened(*id, place);
            }
            Err(error) => {
                limited!(self.role.log(), warn, "a new connection is reset: {error}");
                let reset = Reset::with_detail(Cause::LimitReached, error.to_string());
                refuse(stream, asked.map(|asked| asked.dialect), &reset);
            }
        }
        if let Some(opened) = opened {
            // The requester may be gone.
            let _ = opened.send(result);
        }
    }

    /// Answers a session that the peer opened, if it has not ended meanwhile.
    fn answer(&mut self, id: SessionId, result: Result<Stream, Reset>) {
        let now = self.clocks.round();
        let is_wanted = self.sockets.remove_offer(id);
        match result {
            Ok(stream) if is_wanted => {
                self.tunnel.accept(now, id);
                self.sockets.insert_connected(id, stream);
            }
            Ok(stream) => stream.abort(&Reset::new(Cause::Application)),
            Err(reset) if is_wanted => {
                debug!(session = id.get(), "{reset}");
                self.sockets.note_refused(id, &reset);
                self.tunnel.reset(now, id, reset);
            }
            Err(_) => {}
        }
    }
}
