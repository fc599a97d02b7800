//! The reference model: the data that the applications wrote, and that may therefore be delivered.
//! It knows nothing of packets, so it cannot share their bugs.

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{Cause, SessionId, Side, Time};

use crate::app::{App, AppPlan};
use crate::pattern;
use crate::sides::{Sides, other};

/// One session as a scenario plans it.
#[derive(Clone, Copy, Debug)]
pub struct PairPlan {
    /// The end that opens it.
    pub opener: Side,
    /// The time at which it opens it.
    pub open_at: Time,
    /// The time that its target takes to answer.
    pub connect: Duration,
    /// Whether the target refuses.
    pub is_refused: bool,
    /// The plans of the two applications.
    pub plans: Sides<AppPlan>,
}

/// One session: both its applications, and the events that may justify a reset.
#[derive(Clone, Debug)]
pub(crate) struct ModelSession {
    /// Its plan.
    pub plan: PairPlan,
    /// Both applications.
    pub apps: Sides<App>,
    /// The session's number, at each end that has it.
    pub session: Sides<Option<SessionId>>,
    /// The time at which its opener tries to open it; `None` after that.
    pub open_at: Option<Time>,
    /// Its tunnel was lost.
    pub is_lost: bool,
    /// The operator ended it.
    pub is_killed: bool,
    /// There was no room for it.
    pub is_rejected: bool,
    /// One of its payload bytes was changed in transit.
    pub is_tainted: bool,
    /// Offsets of bytes delivered to this end that differ from what was written.
    pub corrupt: Sides<Vec<u64>>,
}

/// All sessions of a world. Its methods panic if an invariant breaks.
#[derive(Debug)]
pub(crate) struct Model {
    /// In the order of the scenario.
    pub pairs: Vec<ModelSession>,
}

impl Model {
    /// Creates a model in which nothing has happened.
    #[must_use]
    pub(crate) fn new(plans: &[PairPlan]) -> Self {
        let pair = |plan: &PairPlan| ModelSession {
            plan: *plan,
            apps: Sides {
                client: App::new(plan.plans.client),
                server: App::new(plan.plans.server),
            },
            session: Sides::default(),
            open_at: Some(plan.open_at),
            is_lost: false,
            is_killed: false,
            is_rejected: false,
            is_tainted: false,
            corrupt: Sides::default(),
        };
        Self { pairs: plans.iter().map(pair).collect() }
    }

    /// Returns an end's application of a session.
    pub(crate) fn app(&mut self, pair: usize, side: Side) -> &mut App {
        &mut self.pairs[pair].apps[side]
    }

    /// Records that the proxy reads `count` bytes from an application's socket.
    pub(crate) fn take(&mut self, pair: usize, side: Side, count: usize) -> Bytes {
        let app = self.app(pair, side);
        let bytes = pattern::bytes(stream(pair, side), app.taken, count);
        app.taken += count as u64;
        bytes
    }

    /// Records that the proxy writes into an application's socket.
    pub(crate) fn deliver(&mut self, pair: usize, side: Side, bytes: &[u8]) {
        self.check_lives(pair, side);
        let writer = other(side);
        let (start, taken) = {
            let apps = &self.pairs[pair].apps;
            (apps[side].delivered, apps[writer].taken)
        };
        let end = start + bytes.len() as u64;
        assert!(end <= taken, "pair {pair}: {end} bytes delivered to {side:?}, {taken} written");
        let expected = pattern::bytes(stream(pair, writer), start, bytes.len());
        if bytes != expected {
            let state = &mut self.pairs[pair];
            assert!(state.is_tainted, "pair {pair}: wrong bytes for {side:?} from {start} on");
            let all = (start..).zip(bytes.iter().zip(&expected));
            state.corrupt[side].extend(all.filter(|(_, (is, was))| is != was).map(|(at, _)| at));
        }
        let app = self.app(pair, side);
        app.delivered = end;
        assert!(app.delivered - app.read <= app.plan.buffer, "pair {pair}: no room at {side:?}");
    }

    /// Records that the proxy shuts down the sending side of an application's socket.
    pub(crate) fn deliver_end(&mut self, pair: usize, side: Side) {
        self.check_lives(pair, side);
        let state = &self.pairs[pair];
        let (writer, reader) = (&state.apps[other(side)], &state.apps[side]);
        assert!(writer.close_taken, "pair {pair}: an end for {side:?} that nobody wrote");
        assert!(
            state.corrupt[side].is_empty(),
            "pair {pair}: corruption passed silently to {side:?}"
        );
        assert_eq!(reader.delivered, writer.written, "pair {pair}: {side:?} ended early");
        self.app(pair, side).got_end = true;
    }

    /// Accepts damage at these offsets. A proxy died without a record of the bytes that it had
    /// delivered: the packets are replayed, and nothing shows whether they are the same.
    pub(crate) fn forgive(&mut self, pair: usize, side: Side, places: std::ops::Range<u64>) -> u64 {
        let corrupt = &mut self.pairs[pair].corrupt[side];
        let before = corrupt.len();
        corrupt.retain(|place| !places.contains(place));
        (before - corrupt.len()) as u64
    }

    /// Records that the proxy resets an application's socket.
    pub(crate) fn deliver_reset(
        &mut self,
        pair: usize,
        side: Side,
        cause: Cause,
        may_be_short: bool,
    ) {
        let state = &self.pairs[pair];
        assert!(!state.apps[side].is_reset(), "pair {pair}: {side:?} was reset before");
        assert!(state.excuses(side, cause), "pair {pair}: {side:?} reset without reason: {cause}");
        let (writer, reader) = (&state.apps[other(side)], &state.apps[side]);
        let in_order =
            cause == Cause::Application && !may_be_short && state.plan.plans[side].is_brisk();
        if in_order && !state.is_killed && !state.is_lost {
            let missing = writer.taken - reader.delivered;
            assert_eq!(missing, 0, "pair {pair}: the reset of {side:?} overtook data");
        }
        let app = self.app(pair, side);
        (app.got_reset, app.linger) = (Some(cause), None);
    }

    fn check_lives(&self, pair: usize, side: Side) {
        let app = &self.pairs[pair].apps[side];
        assert!(!app.got_end, "pair {pair}: delivered to {side:?} after its end");
        assert!(!app.is_reset(), "pair {pair}: delivered to {side:?} after its reset");
    }

    /// Records that every session of this tunnel is lost with it.
    pub(crate) fn lose(&mut self, sessions: impl Iterator<Item = SessionId>) {
        for id in sessions {
            self.of_session(id).for_each(|pair| pair.is_lost = true);
        }
    }

    /// Returns the pairs that have this number at either end.
    pub(crate) fn of_session(&mut self, id: SessionId) -> impl Iterator<Item = &mut ModelSession> {
        let has = move |pair: &&mut ModelSession| {
            pair.session.client == Some(id) || pair.session.server == Some(id)
        };
        self.pairs.iter_mut().filter(has)
    }

    /// Returns whether every application's connection is over.
    #[must_use]
    pub(crate) fn is_over(&self) -> bool {
        self.pairs.iter().all(ModelSession::is_over)
    }

    /// Checks at the end of a world that every session without a reason for a reset ended in order.
    pub(crate) fn check_final(&self) {
        for (index, pair) in self.pairs.iter().enumerate() {
            assert!(pair.is_over(), "pair {index} never ended");
            let apps = &pair.apps;
            if pair.may_be_reset() {
                continue;
            }
            for side in [Side::Client, Side::Server] {
                assert!(apps[side].got_end, "pair {index}: {side:?} did not end in order");
                assert_eq!(apps[side].delivered, apps[other(side)].plan.total, "pair {index}");
            }
        }
    }
}

impl ModelSession {
    /// Returns whether a reset of `side` with this cause is justified.
    fn excuses(&self, side: Side, cause: Cause) -> bool {
        match cause {
            Cause::Application => self.apps[other(side)].has_reset,
            Cause::Refused => self.plan.is_refused,
            Cause::Killed => self.is_killed,
            Cause::LimitReached => self.is_rejected,
            Cause::Corrupt => self.is_tainted,
            Cause::Unresumable | Cause::TunnelOver => self.is_lost,
            _ => false,
        }
    }

    fn may_be_reset(&self) -> bool {
        self.apps.client.has_reset
            || self.apps.server.has_reset
            || self.plan.is_refused
            || self.is_killed
            || self.is_rejected
            || self.is_tainted
            || self.is_lost
    }

    /// Returns whether nothing more can happen to either application. The side that did not open
    /// may never have been connected.
    #[must_use]
    pub(crate) fn is_over(&self) -> bool {
        let (opener, peer) = (self.plan.opener, other(self.plan.opener));
        let was_offered = self.session[peer].is_some();
        self.open_at.is_none()
            && self.apps[opener].is_over()
            && (self.apps[peer].is_over() || !was_offered && self.may_be_reset())
    }
}

impl AppPlan {
    /// Returns whether it reads fast enough not to count as stalled.
    fn is_brisk(&self) -> bool {
        self.pause.is_none()
            && u128::from(self.read) * 1000 / self.every.as_millis().max(1) > 10_000
    }
}

fn stream(pair: usize, writer: Side) -> u64 {
    pair as u64 * 2 + u64::from(writer == Side::Server)
}
