//! The driver: the one task that owns a tunnel, its carrier and its sockets.
//!
//! It turns readiness into inputs of the state machine and its outputs into
//! system calls. What differs between client and server is in a [`Role`].

mod about;
mod ask;
mod carrier;
mod clock;
mod command;
mod end;
mod farewell;
mod linger;
mod local;
mod offer;
mod pace;
mod ready;
mod role;
mod timers;
mod unacknowledged;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use eternaltcp_proto::{
    Cause, Event, OpenError, READ_SIZE, Reset, SessionId, Standby, Tunnel, encode_refusal,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{debug, warn};

pub(crate) use about::About;
pub use ask::Killed;
pub(crate) use ask::{Ask, drained};
pub(crate) use carrier::{CarrierError, CarrierIo};
pub(crate) use clock::Clock;
pub(crate) use command::{Command, Handle, Shared};
pub(crate) use end::CarrierEnd;
pub use end::EndKind;
pub(crate) use farewell::farewell;
pub(crate) use linger::linger;
pub(crate) use offer::Offer;
pub(crate) use role::{Role, Verdict};

use crate::dynamic::Asked;
use crate::memory::{Blocks, Ebb};
use crate::stream::Stream;
use crate::target::encode_listen;
use ask::Drain;
use local::{Local, Served, refuse};
use ready::ReadyList;

/// Housekeeping: sockets that are not read, memory, the role's own waits.
const TICK: Duration = Duration::from_secs(1);

/// A tunnel that is closed in order has this long to tell the peer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Sockets served before the carrier gets its turn.
const SERVED_AT_ONCE: usize = 64;

/// Bytes read of sockets before the carrier gets its turn: they are sent while
/// they are in the processor's cache.
const READ_AT_ONCE: u64 = READ_SIZE as u64;

/// Commands that may wait for the driver.
const COMMANDS: usize = 1024;

/// One tunnel at work.
pub(crate) struct Driver<R> {
    tunnel: Tunnel,
    role: R,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    carrier: Option<CarrierIo>,
    /// The carrier before, until the server has taken the next: it is closed
    /// without harm then.
    retired: Option<CarrierIo>,
    /// Sessions that the peer opened, until their targets are connected.
    offers: BTreeMap<SessionId, Offer>,
    locals: BTreeMap<SessionId, Local>,
    /// What is known of sessions without a local socket.
    abouts: BTreeMap<SessionId, About>,
    resetting: BTreeSet<SessionId>,
    reset_tick: Option<Instant>,
    ready: Arc<ReadyList>,
    /// Sessions to serve again, whatever their sockets say.
    again: std::collections::VecDeque<SessionId>,
    /// Memory of what local sockets send.
    blocks: Blocks,
    ebb: Ebb,
    plaintext: Vec<Bytes>,
    timer: Pin<Box<Sleep>>,
    next_tick: Instant,
    closing: Option<Instant>,
    /// How many sessions there were when it was last looked.
    had_sessions: usize,
    drain: Option<Drain>,
    started_at: SystemTime,
    /// When the carrier last came or went.
    changed_at: SystemTime,
    is_ended: bool,
}

/// A handle and its receiving end, to be given to [`Driver::new`].
pub(crate) fn channel() -> (Handle, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(COMMANDS);
    (Handle::new(sender), receiver)
}

impl<R: Role> Driver<R> {
    pub(crate) fn new(
        tunnel: Tunnel,
        role: R,
        commands: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        let next_tick = Instant::now() + TICK;
        Self {
            tunnel,
            role,
            clock: Clock::new(),
            commands,
            shared,
            carrier: None,
            retired: None,
            offers: BTreeMap::new(),
            locals: BTreeMap::new(),
            abouts: BTreeMap::new(),
            resetting: BTreeSet::new(),
            reset_tick: None,
            ready: Arc::new(ReadyList::default()),
            again: std::collections::VecDeque::new(),
            blocks: Blocks::default(),
            ebb: Ebb::default(),
            plaintext: Vec::new(),
            timer: Box::pin(sleep_until(next_tick)),
            next_tick,
            closing: None,
            had_sessions: 0,
            drain: None,
            started_at: SystemTime::now(),
            changed_at: SystemTime::now(),
            is_ended: false,
        }
    }

    /// Drives the tunnel to its end, and gives the role back.
    pub(crate) async fn run(mut self) -> R {
        poll_fn(|cx| self.poll(cx)).await;
        for (_, local) in std::mem::take(&mut self.locals) {
            local.abort(&Reset::new(Cause::TunnelOver));
        }
        let (role, ebb) = self.into_parts();
        ebb.handle_end();
        role
    }

    /// What is left when the tunnel's memory is free.
    fn into_parts(self) -> (R, Ebb) {
        (self.role, self.ebb)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut is_busy = self.poll_commands(cx);
            is_busy |= self.poll_carrier_read(cx);
            is_busy |= self.poll_sockets(cx);
            is_busy |= self.poll_events();
            let is_flushed = self.poll_carrier_write(cx);
            is_busy |= self.poll_events();
            is_busy |= self.check_idle();
            // After all that may set a new deadline, or there is no wake-up.
            is_busy |= self.poll_timer(cx);
            if self.is_ended || self.poll_closed(cx, is_flushed) {
                return Poll::Ready(());
            }
            if !is_busy {
                return Poll::Pending;
            }
        }
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_busy = false;
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            self.handle_command(command);
            is_busy = true;
        }
        is_busy
    }

    fn handle_command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Notice(notice) => {
                // A decision about carriers is made with the newest news.
                self.report_path(now);
                self.poll_events();
                let verdict = self.role.notice(now, notice, &mut self.tunnel);
                self.obey(verdict);
            }
            Command::Attach { id, request, carrier } => self.attach(id, *request, *carrier),
            Command::Open { stream, target, asked, opened } => {
                let result = match self.drain {
                    None => self.tunnel.open(target.clone()),
                    Some(_) => Err(OpenError::Closed),
                };
                match &result {
                    Ok(id) => {
                        let about = About::opened(&stream, target);
                        self.insert(*id, stream, about, asked);
                    }
                    Err(error) => {
                        warn!("a new connection is reset: {error}");
                        let reset = Reset::with_detail(Cause::LimitReached, error.to_string());
                        refuse(stream, asked.map(|asked| asked.dialect), &reset);
                    }
                }
                if let Some(opened) = opened {
                    // Whoever asked may be gone.
                    let _ = opened.send(result);
                }
            }
            Command::Listen { stream, listening } => {
                let target = encode_listen(&listening.at);
                match self.tunnel.open(target.clone()) {
                    Ok(id) => {
                        self.role.listens(id, *listening);
                        let about = About::opened(&stream, target);
                        self.insert(id, stream, about, None);
                    }
                    Err(error) => {
                        listening.end(Reset::with_detail(Cause::LimitReached, error.to_string()))
                    }
                }
            }
            Command::Connected(id, result) => self.answer(id, result),
            Command::Detach(why) => self.lose(&CarrierEnd::Detached(why)),
            Command::Close(why) => self.obey(Verdict::Close(why)),
            Command::Stats(asked) => {
                // Whoever asked may be gone.
                let _ = asked.send(self.tunnel.stats());
            }
            Command::Ask(ask) => self.answer_ask(ask),
        }
    }

    /// Answers a session that the peer opened, if it has not ended meanwhile.
    fn answer(&mut self, id: SessionId, result: Result<Stream, Reset>) {
        let now = self.clock.now();
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
    fn attach(
        &mut self,
        id: eternaltcp_proto::TunnelId,
        request: eternaltcp_proto::AttachRequest,
        mut carrier: CarrierIo,
    ) {
        match self.tunnel.handle_attach(self.clock.now(), id, request) {
            Ok(()) => self.carrier = Some(carrier),
            Err(error) => {
                debug!("an attach from {} is refused: {error}", carrier.peer());
                if carrier.push(&encode_refusal(&error.refusal())).is_ok() {
                    tokio::spawn(linger(carrier));
                }
            }
        }
    }

    fn insert(&mut self, id: SessionId, stream: Stream, about: About, asked: Option<Asked>) {
        self.locals.insert(id, Local::new(stream, id, &self.ready, about, asked));
        self.again.push_back(id);
    }

    fn poll_carrier_read(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(carrier) = &mut self.carrier else { return false };
        let mut plaintext = std::mem::take(&mut self.plaintext);
        let read = carrier.poll_read(cx, &mut plaintext);
        let now = self.clock.now();
        if let Poll::Ready(Ok(_)) = read {
            self.tunnel.handle_heard(now);
            self.shared.count_heard();
        }
        let mut broken = None;
        for chunk in plaintext.drain(..) {
            if broken.is_none() {
                broken = self.tunnel.handle_input(now, chunk).err();
            }
        }
        self.plaintext = plaintext;
        match (broken, read) {
            (Some(violation), _) => {
                warn!("the peer broke the protocol: {violation}");
                self.lose(&violation.into());
            }
            (None, Poll::Ready(Err(error))) => {
                // What came before the end happened before it: an answer, a
                // refusal, a close, and bytes, whose delivery is progress.
                self.poll_events();
                self.lose(&error.into());
            }
            (None, Poll::Ready(Ok(_))) => {}
            (None, Poll::Pending) => return false,
        }
        true
    }

    /// Says whether everything that is due was sent.
    fn poll_carrier_write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(carrier) = &mut self.carrier else { return true };
        let now = self.clock.now();
        match carrier.poll_write(cx, now, &mut self.tunnel) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.lose(&error.into()),
        }
        true
    }

    /// The carrier is of no use any more.
    fn lose(&mut self, end: &CarrierEnd) {
        if self.carrier.take().is_none() {
            return;
        }
        self.retired = None;
        self.tunnel.handle_lost();
        self.shared.set_attached(false);
        self.note_change();
        if self.closing.is_none() {
            let verdict = self.role.detached(self.clock.now(), end, &self.tunnel);
            self.obey(verdict);
        }
    }

    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> bool {
        let mut count = 0;
        let enough = self.tunnel.unnumbered() + READ_AT_ONCE;
        for _ in 0..self.again.len() {
            let Some(id) = self.again.pop_front() else { break };
            self.serve(id);
            count += 1;
            if self.tunnel.unnumbered() >= enough {
                return true;
            }
        }
        while count < SERVED_AT_ONCE && self.tunnel.unnumbered() < enough {
            let Some(id) = self.ready.poll_next(cx.waker()) else { break };
            self.serve(id);
            count += 1;
        }
        count > 0
    }

    /// Serves one local socket, and takes it away when it has ended.
    fn serve(&mut self, id: SessionId) {
        let Some(local) = self.locals.get_mut(&id) else {
            self.collect_abort(id);
            return;
        };
        let now = self.clock.now();
        match local.serve(now, &mut self.tunnel, &mut self.blocks) {
            Served::More => self.again.push_back(id),
            Served::Open => {
                if local.is_resetting() {
                    self.resetting.insert(id);
                }
            }
            Served::Ended => {
                if let Some(local) = self.take_local(id) {
                    local.end();
                }
                self.remove(id);
            }
            Served::Broken(reset) => {
                self.remove(id);
                self.tunnel.reset(now, id, reset);
            }
            Served::Abort(reset) => {
                if let Some(local) = self.take_local(id) {
                    local.abort(&reset);
                }
                self.remove(id);
                self.role.reset(id, &reset);
                self.tunnel.delivered_reset(now, id);
            }
        }
    }

    /// A session without a socket has nothing to abort.
    fn collect_abort(&mut self, id: SessionId) {
        if self.tunnel.offered_target(id).is_none() && self.tunnel.pending_reset(id).is_some() {
            self.offers.remove(&id);
            self.tunnel.delivered_reset(self.clock.now(), id);
        }
    }

    fn remove(&mut self, id: SessionId) {
        self.take_local(id);
        self.resetting.remove(&id);
    }

    fn poll_events(&mut self) -> bool {
        let mut is_busy = false;
        while let Some(event) = self.tunnel.poll_event() {
            is_busy = true;
            self.handle_event(event);
        }
        is_busy
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.clock.now();
        let verdict = match event {
            Event::Touched(id) => return self.serve(id),
            Event::Opened(id) => {
                if let Some(target) = self.tunnel.offered_target(id) {
                    let target = target.clone();
                    if self.drain.is_some() {
                        return self.tunnel.reset(now, id, drained());
                    }
                    let offer = self.role.offered(id, &target);
                    self.offers.insert(id, offer);
                    self.abouts.insert(id, About::offered(target));
                }
                return;
            }
            Event::Attached { is_resumed } => {
                self.shared.set_attached(true);
                self.note_change();
                self.retired = None;
                self.role.attached(now, is_resumed, &self.tunnel, self.carrier.as_ref());
                return;
            }
            Event::CarrierDead => {
                let silence = self.tunnel.config().dead_after;
                return self.lose(&CarrierEnd::Silent(silence));
            }
            Event::Suspected(why) => return self.role.suspected(now, Some(why), &self.tunnel),
            Event::Relieved => return self.role.suspected(now, None, &self.tunnel),
            Event::Refused(refusal) => {
                (self.carrier, self.retired) = (None, None);
                self.shared.set_attached(false);
                self.role.refused(now, refusal)
            }
            Event::Closed(why) => {
                (self.carrier, self.retired) = (None, None);
                self.shared.set_attached(false);
                self.role.closed(why)
            }
        };
        self.obey(verdict);
    }

    fn check_idle(&mut self) -> bool {
        let count = self.tunnel.session_count();
        if self.had_sessions == count {
            return false;
        }
        self.had_sessions = count;
        self.shared.set_sessions(count);
        let is_idle = count == 0;
        if is_idle {
            self.check_drain();
            let verdict = self.role.idle();
            self.obey(verdict);
        }
        is_idle
    }

    fn obey(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Continue => {}
            Verdict::Attach(carrier) => self.commit(*carrier, None),
            Verdict::AttachStandby(carrier, standby) => self.commit(*carrier, Some(*standby)),
            Verdict::End => self.is_ended = true,
            Verdict::Close(why) => {
                self.tunnel.close(why);
                self.closing.get_or_insert(Instant::now() + CLOSE_PATIENCE);
            }
            Verdict::Restart(cause) => {
                for lost in self.tunnel.restart() {
                    self.role.lost(&lost);
                }
                self.abort_unknown(cause);
                self.role.restarted(self.clock.now());
            }
        }
    }

    /// The client's part of an attach. Nothing of the carrier before counts any
    /// more; it stays open until the server has taken this one.
    fn commit(&mut self, carrier: CarrierIo, standby: Option<Standby>) {
        if self.closing.is_some() {
            return;
        }
        let now = self.clock.now();
        let asked = match standby {
            Some(standby) => self.tunnel.attach_standby(now, standby),
            None => {
                let role = &self.role;
                self.tunnel.attach(now, || role.intent());
                Ok(())
            }
        };
        self.retired = self.carrier.replace(carrier);
        self.shared.set_attached(false);
        match asked {
            Ok(()) => self.report_path(now),
            Err(error) => self.lose(&CarrierEnd::Detached(error.to_string())),
        }
    }

    /// Resets the local sockets whose sessions are over in the tunnel.
    fn abort_unknown(&mut self, cause: Cause) {
        let known: BTreeSet<_> = self.tunnel.session_ids().collect();
        self.offers.retain(|id, _| known.contains(id));
        let unknown = self.locals.keys().filter(|id| !known.contains(id));
        let why = Reset::new(cause);
        for id in unknown.copied().collect::<Vec<_>>() {
            if let Some(local) = self.take_local(id) {
                local.abort(&why);
            }
            self.remove(id);
            self.role.reset(id, &why);
        }
    }

    /// Whether a tunnel that is being closed has told the peer, and the peer
    /// has closed the carrier; or the time for that is over.
    fn poll_closed(&mut self, cx: &mut Context<'_>, is_flushed: bool) -> bool {
        let Some(until) = self.closing else { return false };
        let now = self.clock.now();
        let Some(carrier) = &mut self.carrier else { return true };
        let is_told = is_flushed && self.tunnel.is_close_told();
        let is_failed = is_told && matches!(carrier.poll_shut(cx, now), Poll::Ready(Err(_)));
        is_failed || Instant::now() >= until
    }
}
