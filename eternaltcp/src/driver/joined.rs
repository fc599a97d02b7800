//! The carriers beside the attached one: they carry bulk, and end with it.

use std::task::{Context, Poll};

use bytes::Bytes;
use eternaltcp_proto::{JoinRequest, JoinedId, Standby};
use tracing::debug;

use super::{CarrierEnd, CarrierIo, Driver, Role};
use crate::log_limit::limited;
use crate::server::Joiner;

/// A carrier that has joined the attached one, or has asked to.
#[derive(Debug)]
pub(super) struct Joined {
    id: JoinedId,
    pub(super) carrier: CarrierIo,
    /// Its place at a server.
    _joiner: Option<Joiner>,
}

impl<R: Role> Driver<R> {
    /// The client's part: a standby carrier is to join.
    pub(super) fn ask_to_join(&mut self, mut carrier: CarrierIo, standby: Standby) {
        match self.tunnel.join(self.now, standby) {
            Ok(id) => {
                carrier.pass_on();
                self.joined.push(Joined { id, carrier, _joiner: None });
            }
            Err(error) => debug!("a carrier cannot join: {error}"),
        }
    }

    /// The server's part. A carrier that comes too late is closed.
    pub(super) fn let_join(
        &mut self,
        request: JoinRequest,
        mut carrier: CarrierIo,
        joiner: Joiner,
    ) {
        match self.tunnel.handle_join(request) {
            Ok(id) => {
                carrier.pass_on();
                self.joined.push(Joined { id, carrier, _joiner: Some(joiner) });
                // The client may have sent more behind its request.
                self.take_or_lose(id, &mut vec![Bytes::new()]);
            }
            Err(error) => debug!("a carrier from {} cannot join: {error}", carrier.peer()),
        }
    }

    pub(super) fn poll_joined_read(&mut self, cx: &mut Context<'_>) {
        for index in 0..self.joined.len() {
            let mut plaintext = std::mem::take(&mut self.plaintext);
            // One that ends takes all along.
            let Some(joined) = self.joined.get_mut(index) else { break };
            let (id, read) = (joined.id, joined.carrier.poll_read(cx, &mut plaintext));
            let is_taken = self.take_or_lose(id, &mut plaintext);
            self.plaintext = plaintext;
            if let (true, Poll::Ready(Err(error))) = (is_taken, read) {
                // What came before it happened before it.
                self.poll_events();
                self.lose_joined(error.into());
            }
        }
    }

    /// Takes what came on a joined carrier. A violation ends them all: then it
    /// returns `false`.
    fn take_or_lose(&mut self, id: JoinedId, plaintext: &mut Vec<Bytes>) -> bool {
        let taken = self.take_joined(id, plaintext);
        let is_taken = taken.is_ok();
        if let Err(violation) = taken {
            limited!(self.role.log(), warn, "the peer broke the protocol: {violation}");
            self.lose(&violation.into());
        }
        is_taken
    }

    fn take_joined(
        &mut self,
        id: JoinedId,
        plaintext: &mut Vec<Bytes>,
    ) -> Result<(), eternaltcp_proto::Violation> {
        let mut result = Ok(());
        for chunk in plaintext.drain(..) {
            if result.is_ok() {
                result = self.tunnel.handle_joined_input(self.now, id, chunk);
            }
        }
        result
    }

    pub(super) fn poll_joined_write(&mut self, cx: &mut Context<'_>) {
        let mut failed = None;
        for Joined { id, carrier, .. } in &mut self.joined {
            let (tunnel, id) = (&mut self.tunnel, *id);
            let typed = tunnel.last_interactive();
            let next = |now| tunnel.poll_joined_transmit(now, id);
            if let Poll::Ready(Err(error)) = carrier.poll_write_with(cx, self.now, typed, next) {
                failed.get_or_insert(error);
            }
        }
        if let Some(why) = failed {
            self.lose_joined(why.into());
        }
    }

    /// Looks whether what was sent on one of them is acknowledged still: nobody
    /// hears of it otherwise until its next heartbeat.
    pub(super) fn check_joined(&mut self) {
        let (now, patience) = (self.now, self.tunnel.config().dead_after);
        let mut silent = None;
        for joined in &mut self.joined {
            joined.carrier.shrink();
            let report = joined.carrier.path_report(now);
            silent = silent.or(report.and_then(|report| report.unanswered_for));
            silent = silent.filter(|silent| *silent >= patience);
        }
        if let Some(silent) = silent {
            self.lose_joined(CarrierEnd::Silent(silent));
        }
    }

    /// A joined carrier ended: what it had under way needs an attach.
    pub(super) fn lose_joined(&mut self, end: CarrierEnd) {
        self.lose(&CarrierEnd::Joined(Box::new(end)));
    }

    /// Whether one of them has more to read that nothing wakes for.
    pub(super) fn joined_have_more(&self) -> bool {
        self.joined.iter().any(|joined| joined.carrier.has_more())
    }
}
