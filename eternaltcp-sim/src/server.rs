//! The server's program: it accepts new carriers, knows its tunnel, and decides who may have it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    AcceptError, Acceptor, AttachError, AttachRequest, Cause, Config, Event, Hello, Intent,
    Progress, Refusal, RefusalCode, Side, Time, TunnelId, encode_refusal,
};

use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};
use crate::pipe::Incoming;
use crate::store::StoreHandle;

/// The maximum number of sessions that a request lists.
const MAX_NUMBERS: usize = 1000;

/// The allowed silence of a standby or joined carrier.
const SILENCE: Duration = Duration::from_secs(6);

/// sproxy without its sockets.
#[derive(Debug)]
pub(crate) struct SimServer {
    config: Config,
    store: StoreHandle,
    pub(crate) end: Option<(TunnelId, SimEnd)>,
    acceptors: BTreeMap<LinkId, Acceptor>,
    /// The last granted request, to be replayed.
    granted: Option<AttachRequest>,
    next_tunnel: u8,
}

impl SimServer {
    /// Creates a server without tunnels.
    #[must_use]
    pub(crate) fn new(config: Config, store: StoreHandle) -> Self {
        Self { config, store, end: None, acceptors: BTreeMap::new(), granted: None, next_tunnel: 0 }
    }

    /// Replaces the program by another one, which continues with the stored state of the end, if
    /// there is any.
    pub(crate) fn restart(&mut self, end: Option<SimEnd>) {
        (self.acceptors, self.granted) = (BTreeMap::new(), None);
        self.end = end.and_then(|end| Some((end.tunnel.id()?, end)));
    }

    /// Handles input of one of the server's links.
    pub(crate) fn handle_link(&mut self, env: &mut Env, id: LinkId) {
        let Some(incoming) = env.read(id, Side::Server) else { return };
        let is_known = self.end.as_ref().is_some_and(|(_, end)| end.carrier(id).is_some());
        match (incoming, &mut self.end) {
            (Incoming::Bytes(bytes), Some((_, end))) if is_known => {
                let events = end.handle_bytes(env, id, bytes);
                self.handle_events(env, events);
            }
            (Incoming::Closed, Some((_, end))) if is_known => end.handle_lost(env, id),
            (Incoming::Bytes(bytes), _) => self.handle_stranger(env, id, bytes),
            (Incoming::Closed, _) => self.hang_up(env, id),
        }
    }

    /// Drains the tunnel's outputs.
    pub(crate) fn pump(&mut self, env: &mut Env) {
        let events = self.end.as_mut().map(|(_, end)| end.pump(env)).unwrap_or_default();
        self.handle_events(env, events);
    }

    /// Returns the time at which it has something to do by itself.
    pub(crate) fn next_time(&self) -> Option<Time> {
        let end = self.end.as_ref().and_then(|(_, end)| end.next_time());
        self.acceptors.values().map(Acceptor::poll_timeout).chain([end]).flatten().min()
    }

    /// Performs the actions that are due.
    pub(crate) fn handle_timeout(&mut self, env: &mut Env) {
        let is_silent =
            |acceptor: &Acceptor| acceptor.poll_timeout().is_some_and(|at| at <= env.now);
        let silent = self.acceptors.iter().filter(|(_, acceptor)| is_silent(acceptor));
        for id in silent.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.hang_up(env, id);
        }
        let events = self.end.as_mut().map(|(_, end)| end.handle_timeout(env)).unwrap_or_default();
        self.handle_events(env, events);
    }

    /// Sends the last granted request again: it must change nothing.
    pub(crate) fn replay_request(&mut self, env: &mut Env) {
        let (Some((tunnel, end)), Some(request)) = (&mut self.end, &self.granted) else { return };
        let before = (end.tunnel.is_attached(), end.tunnel.held());
        let granted = end.tunnel.handle_attach(env.now, *tunnel, request.clone());
        assert_eq!(granted, Err(AttachError::Stale), "a replayed attach was granted");
        assert_eq!((end.tunnel.is_attached(), end.tunnel.held()), before);
        env.counters.replayed_requests += 1;
    }

    /// Restarts the server, which has forgotten everything.
    pub(crate) fn lose(&mut self, env: &mut Env) {
        env.counters.server_losses += 1;
        for id in std::mem::take(&mut self.acceptors).into_keys() {
            env.close(id, Side::Server, true);
        }
        self.end_tunnel(env, Cause::TunnelOver);
    }

    fn end_tunnel(&mut self, env: &mut Env, cause: Cause) {
        let Some((_, mut end)) = self.end.take() else { return };
        env.model.lose(end.tunnel.session_ids());
        self.store.clear();
        end.reset_all(env, cause);
        end.tunnel.detach();
        end.reconcile(env, false);
    }

    fn hang_up(&mut self, env: &mut Env, id: LinkId) {
        self.acceptors.remove(&id);
        env.close(id, Side::Server, false);
    }

    /// Handles bytes of a carrier that has no tunnel yet.
    fn handle_stranger(&mut self, env: &mut Env, id: LinkId, mut bytes: Bytes) {
        let mut acceptor = self.acceptors.remove(&id).unwrap_or_else(|| Acceptor::new(MAX_NUMBERS));
        while !bytes.is_empty() {
            let size = env.rng.between(1, bytes.len() as u64) as usize;
            acceptor.handle_input(bytes.split_to(size));
            acceptor.handle_heard(env.now);
            match self.advance(env, &mut acceptor) {
                Ok(Progress::Join) => return self.join(env, id, acceptor, bytes),
                Ok(Progress::Complete) => {
                    let request = acceptor.into_request().expect("a complete request");
                    return self.attach(env, id, request);
                }
                Ok(_) => {}
                Err(refusal) => return self.refuse(env, id, &refusal),
            }
        }
        while let Some(packet) = acceptor.poll_transmit() {
            let bytes = [&packet.header.encode()[..], &packet.payload].concat();
            if let Some(link) = env.links.get_mut(&id) {
                link.write(Side::Server, env.now, bytes.into());
            }
        }
        self.acceptors.insert(id, acceptor);
    }

    /// Lets a standby carrier join the attached one.
    fn join(&mut self, env: &mut Env, id: LinkId, acceptor: Acceptor, rest: Bytes) {
        let request = acceptor.into_join().expect("it asked");
        let Some((_, end)) = &mut self.end else { return self.hang_up(env, id) };
        match end.tunnel.handle_join(request) {
            Ok(joined) => {
                note!(env, "link {id} has joined");
                env.counters.joined += 1;
                end.reconcile(env, false);
                end.carriers.push((id, joined));
                let events = end.handle_bytes(env, id, rest);
                self.handle_events(env, events);
                self.pump(env);
            }
            Err(_) => self.hang_up(env, id),
        }
    }

    /// Decides about a request as soon as possible.
    fn advance(&self, env: &Env, acceptor: &mut Acceptor) -> Result<Progress, Refusal> {
        loop {
            match acceptor.poll() {
                Ok(Progress::Standby(request)) => {
                    self.judge_resume(request.tunnel)?;
                    acceptor.let_stand_by(env.now, SILENCE);
                }
                Ok(Progress::Hello(hello)) => self.judge(&hello)?,
                Ok(progress) => return Ok(progress),
                Err(AcceptError::Hello(error)) => panic!("no request: {error}"),
                Err(AcceptError::Violation(error)) => panic!("a bad request: {error}"),
            }
        }
    }

    fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        let current = self.end.as_ref();
        match &hello.intent {
            Intent::New { .. } => match current {
                // A request that was delayed in the network ends no later tunnel.
                Some((_, end)) if hello.epoch <= end.tunnel.epoch() => {
                    Err(Refusal::for_now(RefusalCode::Stale, ""))
                }
                _ => Ok(()),
            },
            Intent::Resume { tunnel } => self.judge_resume(*tunnel),
        }
    }

    fn judge_resume(&self, tunnel: TunnelId) -> Result<(), Refusal> {
        match &self.end {
            Some((id, _)) if *id == tunnel => Ok(()),
            _ => Err(Refusal::last(RefusalCode::TunnelUnknown, "")),
        }
    }

    fn refuse(&mut self, env: &mut Env, id: LinkId, refusal: &Refusal) {
        note!(env, "the server refuses link {id}: {refusal}");
        env.counters.epoch_races += u64::from(refusal.code == RefusalCode::Stale);
        if let Some(link) = env.links.get_mut(&id) {
            link.write(Side::Server, env.now, encode_refusal(refusal).into());
        }
        self.hang_up(env, id);
    }

    /// Handles a complete, admitted request: the tunnel takes the carrier, or is created.
    fn attach(&mut self, env: &mut Env, id: LinkId, request: AttachRequest) {
        if let Err(refusal) = self.judge(request.hello()) {
            return self.refuse(env, id, &refusal);
        }
        if matches!(request.hello().intent, Intent::New { .. }) {
            self.end_tunnel(env, Cause::TunnelOver);
            self.next_tunnel += 1;
            let end = SimEnd::new(Side::Server, self.config.clone(), self.store.clone());
            self.end = Some((TunnelId([self.next_tunnel; 16]), end));
        }
        let Some((tunnel, end)) = &mut self.end else { return };
        self.granted = Some(request.clone());
        let early = end.tunnel.stats().early_packets;
        end.mark_replay();
        match end.tunnel.handle_attach(env.now, *tunnel, request) {
            Ok(carrier) => {
                env.counters.early_packets_taken += end.tunnel.stats().early_packets - early;
                note!(env, "the server binds link {id}");
                end.reconcile(env, true);
                end.carriers.push((id, carrier));
                end.report_path(env);
                self.pump(env);
            }
            Err(error) => self.refuse(env, id, &error.refusal()),
        }
    }

    fn handle_events(&mut self, env: &mut Env, events: Vec<Event>) {
        for event in events {
            note!(env, "the server is told: {event:?}");
            match event {
                Event::Attached { .. } => {
                    env.counters.attaches += 1;
                    if let Some((_, end)) = &mut self.end {
                        env.announced.state().into_iter().for_each(|it| end.tunnel.announce(it));
                        end.reconcile(env, true);
                    }
                }
                Event::CarrierDead(_) => {
                    if let Some((_, end)) = &mut self.end {
                        end.reconcile(env, false);
                    }
                }
                Event::Closed(_) => self.end_tunnel(env, Cause::TunnelOver),
                Event::Suspected(why) => panic!("the server doubts: {why:?}"),
                Event::StandsBy(_) | Event::StandbyDoubted(..) | Event::StandbyLost(..) => {
                    panic!("a carrier stands by at the tunnel of a server: {event:?}")
                }
                Event::Announced(it) => panic!("the server is told: {it:?}"),
                Event::Refused(_) | Event::Relieved | Event::Opened(_) | Event::Dirty(_) => {}
            }
        }
    }
}
