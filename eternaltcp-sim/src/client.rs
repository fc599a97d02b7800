//! The client's program: it dials, attaches, and starts anew when it must.

use bytes::Bytes;
use eternaltcp_proto::{Backoff, Cause, Config, Event, Instance, Intent, RefusalCode, Side, Time};

use crate::end::End;
use crate::env::{Env, LinkId, note};
use crate::faults;
use crate::link::{Incoming, Link, Speed};
use crate::rng::Rng;

/// cproxy without its sockets.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) end: End,
    backoff: Backoff,
    delivered_before: u64,
    /// When the next carrier is dialled.
    dials_at: Option<Time>,
    /// When the one that is being dialled is there.
    connects_at: Option<Time>,
    next_link: LinkId,
}

impl Client {
    /// A client that dials at once.
    #[must_use]
    pub(crate) fn new(config: Config) -> Self {
        Self {
            end: End::new(Side::Client, config),
            backoff: Backoff::default(),
            delivered_before: 0,
            dials_at: Some(Time::ZERO),
            connects_at: None,
            next_link: 0,
        }
    }

    /// When it has something to do by itself.
    #[must_use]
    pub(crate) fn next_time(&self) -> Option<Time> {
        [self.dials_at, self.connects_at, self.end.next_time()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, env: &mut Env) {
        let news = self.end.handle_timeout(env);
        self.handle_news(env, news);
        if self.dials_at.is_some_and(|at| at <= env.now) {
            self.dials_at = None;
            self.connects_at = Some(env.now + env.rng.millis(1, 80));
        }
        if self.connects_at.is_some_and(|at| at <= env.now) {
            self.connects_at = None;
            self.attach(env);
        }
    }

    /// A link has something for the client.
    pub(crate) fn handle_link(&mut self, env: &mut Env, id: LinkId) {
        let Some(incoming) = env.read(id, Side::Client) else { return };
        assert_eq!(self.end.carrier, Some(id), "a link that is neither bound nor retired");
        match incoming {
            Incoming::Bytes(bytes) => {
                let news = self.end.handle_bytes(env, bytes);
                self.handle_news(env, news);
            }
            Incoming::Closed => {
                self.end.handle_lost(env);
                self.redial(env);
            }
        }
    }

    /// Drains the tunnel's outputs.
    pub(crate) fn pump(&mut self, env: &mut Env) {
        let news = self.end.pump(env);
        self.handle_news(env, news);
    }

    /// Dials a second carrier while the first may well live.
    pub(crate) fn roam(&mut self, env: &mut Env) {
        env.counters.races += 1;
        self.dials_at = Some(env.now);
    }

    /// Tries again after a while; at once after progress.
    pub(crate) fn redial(&mut self, env: &mut Env) {
        let delivered = self.end.tunnel.stats().delivered_bytes;
        if delivered > self.delivered_before {
            self.delivered_before = delivered;
            self.backoff.reset();
        }
        let delay = self.backoff.next_delay(env.rng.bits() as u32);
        if self.connects_at.is_none() {
            self.dials_at = Some(env.now + delay);
        }
    }

    /// The dialled carrier is there: the commit.
    fn attach(&mut self, env: &mut Env) {
        let id = self.next_link;
        self.next_link += 1;
        env.counters.carriers += 1;
        let mut link = Link::new(speed(&mut env.rng));
        faults::ordain(env, id, &mut link);
        env.links.insert(id, link);
        note!(env, "the client attaches on link {id}");
        self.end.switch(env, Some(id));
        self.end.tunnel.attach(env.now, || Intent::New {
            enrol: Bytes::from_static(b"the tunnel's key"),
            instance: Instance::default(),
        });
        self.pump(env);
    }

    fn handle_news(&mut self, env: &mut Env, news: Vec<Event>) {
        for event in news {
            note!(env, "the client is told: {event:?}");
            match event {
                Event::Attached { .. } => env.counters.attaches += 1,
                Event::Refused(refusal) => {
                    self.end.switch(env, None);
                    if refusal.code == RefusalCode::TunnelUnknown {
                        self.restart(env);
                    }
                    self.redial(env);
                }
                Event::CarrierDead => {
                    self.end.switch(env, None);
                    self.redial(env);
                }
                Event::Closed(_) => {
                    self.end.switch(env, None);
                    self.restart(env);
                    self.redial(env);
                }
                Event::Opened(_) | Event::Touched(_) => {}
            }
        }
    }

    /// The server does not know the tunnel: what it carried is lost.
    fn restart(&mut self, env: &mut Env) {
        env.counters.restarts += 1;
        for lost in self.end.tunnel.restart() {
            note!(env, "{lost:?}");
            let Some(socket) = self.end.sockets.remove(&lost.session) else { continue };
            env.model.pairs[socket.pair].is_lost = true;
            env.model.deliver_reset(socket.pair, Side::Client, Cause::Unresumable, true);
        }
        let kept: Vec<_> = self.end.tunnel.session_ids().collect();
        let is_kept = self.end.sockets.keys().all(|id| kept.contains(id));
        assert!(is_kept, "a socket outlived its session: {:?}, {kept:?}", self.end.sockets);
        self.pump(env);
    }
}

fn speed(rng: &mut Rng) -> Speed {
    Speed {
        delay: rng.millis(0, 1 << rng.clone().below(8)),
        rate: rng.pick(&[100, 1000, 10_000, 100_000]),
        buffer: rng.pick(&[1000, 16 << 10, 64 << 10, 256 << 10]),
    }
}
