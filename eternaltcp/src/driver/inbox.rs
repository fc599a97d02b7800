//! What the driver does with the commands that others send it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use eternaltcp_proto::{
    AttachRequest, Cause, OpenError, Reset, SessionId, TunnelId, encode_refusal,
};
use tracing::debug;

use super::entrance::Newcomer;
use super::local::{Local, refuse};
use super::{About, CarrierEnd, CarrierIo, Command, Driver, Role, Verdict, linger};
use crate::client::Listening;
use crate::dynamic::Asked;
use crate::log_limit::limited;
use crate::net::stream::Stream;
use crate::target::encode_listen;

impl<R: Role> Driver<R> {
    pub(super) fn poll_commands(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            self.handle_command(command);
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.now;
        match command {
            Command::Notice(notice) => {
                // A decision about carriers is made with the newest news.
                self.report_path(now);
                self.poll_events();
                let verdict = self.role.notice(now, notice, &mut self.tunnel);
                self.obey(verdict);
            }
            Command::Attach { id, request, carrier } => self.attach(id, *request, *carrier),
            Command::Join { request, carrier, joiner } => self.let_join(*request, *carrier, joiner),
            Command::Open(newcomer) => {
                if self.entrance.is_waited_at() || !self.may_open() {
                    self.entrance.wait(newcomer, self.tunnel.session_count());
                } else {
                    self.open(newcomer);
                }
            }
            Command::Listen { stream, listening } => self.listen(stream, *listening),
            Command::Connected(id, result) => self.answer(id, result),
            Command::Detach(why) => self.lose(&CarrierEnd::Detached(why)),
            Command::Close(why) => {
                let why = self.role.closing(why, &self.tunnel);
                self.obey(Verdict::Close(why));
            }
            Command::Stats(asked) => {
                // Whoever asked may be gone.
                let _ = asked.send(self.tunnel.stats());
            }
            Command::Ask(ask) => self.answer_ask(ask),
        }
    }

    /// Whether a new session finds a share, or is refused for another reason than that.
    fn may_open(&self) -> bool {
        self.drain.is_some() || self.tunnel.is_closed() || self.tunnel.has_share()
    }

    /// Lets new sessions in for which there is room now. Says whether there were any.
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
        let result = match self.drain {
            None => self.tunnel.open(target.clone()),
            Some(_) => Err(OpenError::Closed),
        };
        match &result {
            Ok(id) => {
                let about = About::opened(&stream, target);
                self.insert(*id, stream, about, asked);
                self.entrance.handle_opened(*id, place);
            }
            Err(error) => {
                limited!(self.role.log(), warn, "a new connection is reset: {error}");
                let reset = Reset::with_detail(Cause::LimitReached, error.to_string());
                refuse(stream, asked.map(|asked| asked.dialect), &reset);
            }
        }
        if let Some(opened) = opened {
            // Whoever asked may be gone.
            let _ = opened.send(result);
        }
    }

    /// Opens a session by which the server listens.
    fn listen(&mut self, stream: Stream, listening: Listening) {
        let target = encode_listen(&listening.at);
        match self.tunnel.open(target.clone()) {
            Ok(id) => {
                self.role.listens(id, listening);
                let about = About::opened(&stream, target);
                self.insert(id, stream, about, None);
            }
            Err(error) => {
                listening.end(Reset::with_detail(Cause::LimitReached, error.to_string()));
            }
        }
    }

    /// Answers a session that the peer opened, if it has not ended meanwhile.
    fn answer(&mut self, id: SessionId, result: Result<Stream, Reset>) {
        let now = self.now;
        let is_wanted = self.offers.remove(&id).is_some();
        match result {
            Ok(stream) if is_wanted => {
                self.tunnel.accept(now, id);
                let about = self.abouts.remove(&id);
                let about = about.unwrap_or_else(|| About::offered(Bytes::new()));
                self.insert(id, stream, about, None);
            }
            Ok(stream) => stream.abort(&Reset::new(Cause::Application)),
            Err(reset) if is_wanted => {
                debug!("session {id}: {reset}");
                self.tunnel.reset(now, id, reset);
            }
            Err(_) => {}
        }
    }

    /// The server's part of an attach. The old carrier ends only if the new
    /// one is bound.
    fn attach(&mut self, id: TunnelId, request: AttachRequest, mut carrier: CarrierIo) {
        match self.tunnel.handle_attach(self.now, id, request) {
            Ok(()) => {
                carrier.pass_on();
                self.joined.clear();
                self.carrier = Some(carrier);
            }
            Err(error) => {
                debug!("an attach from {} is refused: {error}", carrier.peer());
                let place = Arc::clone(&self.lingering).try_acquire_owned();
                if let Ok(place) = place
                    && carrier.push(&encode_refusal(&error.refusal())).is_ok()
                {
                    tokio::spawn(async move {
                        linger(carrier).await;
                        drop(place);
                    });
                }
            }
        }
    }

    fn insert(&mut self, id: SessionId, stream: Stream, about: About, asked: Option<Asked>) {
        self.locals.insert(id, Local::new(stream, id, &self.ready, about, asked));
        self.again.push_back(id);
    }
}
