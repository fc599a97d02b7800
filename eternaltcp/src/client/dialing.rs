//! The dials of a client: started as the core decides, each in its own task.

use std::collections::BTreeMap;
use std::time::Duration;

use eternaltcp_proto::{DialId, Failover, Occasion, Stats, Suspicion, Time, Tunnel};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;

use super::dial::{DialRequest, Dialed, Dialer};
use super::event::{ClientEvent, ClientHandle};
use super::node_wait::NodeWait;
use super::path::NetworkPath;
use crate::driver::CarrierEnd;
use crate::route::Node;

/// A tunnel that was attached for at least this long is recreated at once.
const SETTLED: Duration = Duration::from_secs(1);

/// Interval at which a preferred path or server is tried.
const PREFERENCE_PERIOD: Duration = Duration::from_secs(30);

/// A client's decisions about carriers, and the tasks that carry them out.
#[derive(Debug)]
pub(super) struct Dialing {
    failover: Failover,
    dialer: Dialer,
    handle: ClientHandle,
    tasks: BTreeMap<DialId, Task>,
    /// Whether the next dial is for a tunnel that the server does not know yet.
    is_new: bool,
    /// The path for the next dial, which the network has just reported.
    next_path: Option<NetworkPath>,
    current: Option<Current>,
    attached_at: Instant,
    preferred_at: Instant,
    /// The tunnel's statistics when progress was last checked.
    seen: Stats,
    node_wait: NodeWait,
}

/// The carrier that is bound, or has asked to be.
#[derive(Debug)]
struct Current {
    path: NetworkPath,
    /// Its server, as an index in the order of preference.
    server: usize,
    /// Its server is the node that has the tunnel.
    is_of_node: bool,
}

/// A running dial; dropping this abandons it.
#[derive(Debug)]
struct Task {
    abort: AbortHandle,
    /// It proves the user's key, for a tunnel that the server did not know at the time.
    is_new: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// A dial that has begun.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) occasion: Occasion,
    /// The paths that it tries in addition to the current one.
    pub(super) others: Vec<NetworkPath>,
}

/// The use of a dial that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finished {
    /// It was given up before.
    Abandoned,
    /// It proved an outdated key.
    Outdated,
    /// It is wanted.
    Wanted,
}

impl Dialing {
    pub(super) fn new(
        dialer: Dialer,
        handle: ClientHandle,
        is_new: bool,
        node_wait: NodeWait,
    ) -> Self {
        Self {
            failover: Failover::new(Time::ZERO),
            dialer,
            handle,
            tasks: BTreeMap::new(),
            is_new,
            next_path: None,
            current: None,
            attached_at: Instant::now(),
            preferred_at: Instant::now(),
            seen: Stats::default(),
            node_wait,
        }
    }

    /// Returns the dialer, which makes carriers.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Returns whether the next dial is for a tunnel that the server does not know yet.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns the path of the carrier that is bound, or has asked to be.
    pub(super) fn current_path(&self) -> Option<&NetworkPath> {
        self.current.as_ref().map(|current| &current.path)
    }

    /// Returns whether a carrier is bound, as far as the decisions know.
    pub(super) fn is_carried(&self) -> bool {
        self.failover.is_carried()
    }

    /// Returns the time at which the next dial is due. Nothing is dialled while the user is asked.
    /// The answer comes as an event.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        if self.dialer.is_asking() { None } else { self.failover.poll_timeout() }
    }

    /// Starts the dials that are due.
    pub(super) fn start_due(&mut self, now: Time) -> Vec<Started> {
        let mut started = Vec::new();
        if self.dialer.is_asking() {
            return started;
        }
        self.end_abandoned();
        while let Some((id, occasion)) = self.failover.poll_dial(now, random()) {
            let request = self.request(occasion);
            let current = self.current_path();
            let is_other = |path: &&NetworkPath| {
                current.is_none_or(|current| current.interface != path.interface)
            };
            let tried = request.also.iter().chain(&request.path);
            started.push(Started { occasion, others: tried.filter(is_other).cloned().collect() });
            self.start(id, request);
            self.end_abandoned();
        }
        started
    }

    fn end_abandoned(&mut self) {
        while let Some(id) = self.failover.poll_abandoned() {
            self.tasks.remove(&id);
        }
    }

    fn request(&mut self, occasion: Occasion) -> DialRequest {
        let is_silent = matches!(
            occasion,
            Occasion::Loss | Occasion::Suspicion(Suspicion::Path | Suspicion::Size)
        );
        let others = || self.dialer.other_paths(self.current_path());
        let server = self.server();
        DialRequest {
            is_new: self.is_new,
            also: if is_silent { others() } else { Vec::new() },
            // Later dials use the path that the system chooses then.
            path: self.next_path.take(),
            servers: (occasion == Occasion::Preference && server > 0).then_some(server),
            is_small: self.failover.wants_small_segments(occasion),
            probes: self.node_wait.is_over(),
            is_continuable: false,
        }
    }

    /// Returns the current carrier's server, by its position in the order of preference.
    fn server(&self) -> usize {
        self.current.as_ref().map_or(0, |current| current.server)
    }

    fn start(&mut self, id: DialId, request: DialRequest) {
        let is_new = request.is_new;
        let (dialer, handle) = (self.dialer.clone(), self.handle.clone());
        let task = async move {
            let connected = {
                let handle = handle.clone();
                move || {
                    // If there is no room, the end of the dial is still reported.
                    handle.try_tell(ClientEvent::Connected(id));
                }
            };
            let result = dialer.dial(request, connected).await;
            handle.tell(ClientEvent::Dialed(id, result.map(Box::new))).await;
        };
        let task = tokio::spawn(task.in_current_span());
        self.tasks.insert(id, Task { abort: task.abort_handle(), is_new });
    }

    /// Handles the end of a dial. `is_made` says whether it made a carrier.
    pub(super) fn finish(&mut self, now: Time, id: DialId, is_made: bool) -> Finished {
        match self.tasks.remove(&id) {
            None => Finished::Abandoned,
            Some(task) if is_made && task.is_new != self.is_new => {
                self.failover.handle_outdated(now, id);
                Finished::Outdated
            }
            Some(_) => Finished::Wanted,
        }
    }

    /// Handles a dial that has made a carrier. Returns whether to bind it.
    pub(super) fn handle_ready(&mut self, now: Time, id: DialId, dialed: &Dialed) -> bool {
        let is_wanted = self.failover.handle_ready(now, id);
        if is_wanted && self.is_new {
            self.dialer.record_server(dialed);
        }
        is_wanted
    }

    /// Handles a carrier that stands by. Returns whether to bind it.
    pub(super) fn take_standby(&mut self, now: Time, is_small: bool) -> bool {
        self.failover.take_standby(now, is_small)
    }

    /// Handles a carrier of the tunnel that could take over. Returns whether to bind it.
    pub(super) fn take_over(&mut self, now: Time, path: &NetworkPath) -> bool {
        self.failover.take_over(now, self.dialer.uses_small_segments(path))
    }

    /// Records the path and the server of the carrier that asks to be bound.
    pub(super) fn set_current(&mut self, path: NetworkPath, server: usize, is_of_node: bool) {
        self.current = Some(Current { path, server, is_of_node });
    }

    /// Records what the server of the attached carrier states about itself: its name, as the node
    /// that has the tunnel. Returns whether the node has changed.
    pub(super) fn set_node(&mut self, node: Option<Node>) -> bool {
        if let (Some(current), true) = (&mut self.current, node.is_some()) {
            current.is_of_node = true;
        }
        self.dialer.set_node(node)
    }

    /// Returns whether the carrier leads to a server that is not known to be the tunnel's node.
    pub(super) fn is_elsewhere(&self) -> bool {
        let is_of_node = self.current.as_ref().is_some_and(|current| current.is_of_node);
        self.dialer.node().is_some() && !is_of_node
    }

    /// Handles the answer of a server that does not know the tunnel and is not its node. Returns
    /// whether the tunnel is to be given up, after this long.
    pub(super) fn handle_unknown(&mut self) -> Option<Duration> {
        self.node_wait.handle_unknown().then(|| self.node_wait.waited())
    }

    /// Handles a failed dial. `is_answered` says whether the server's machine answered.
    pub(super) fn handle_failed(&mut self, now: Time, id: DialId, is_answered: bool) {
        if is_answered && !self.is_carried() && self.dialer.node().is_some() {
            self.node_wait.handle_answered();
        }
        self.failover.handle_failed(now, id, is_answered, random());
    }

    /// Handles a dial that the server's machine answered.
    pub(super) fn handle_connected(&mut self, id: DialId) {
        self.failover.handle_connected(id);
    }

    /// Data delivered on either side are progress, which resets the pace.
    pub(super) fn note_progress(&mut self, tunnel: &Tunnel) {
        let stats = tunnel.stats();
        let seen = std::mem::replace(&mut self.seen, stats);
        if stats.acknowledged != seen.acknowledged || stats.delivered_bytes != seen.delivered_bytes
        {
            self.failover.handle_progress();
        }
    }

    /// Handles the attach of the carrier.
    pub(super) fn handle_attached(&mut self, now: Time, tunnel: &Tunnel) {
        self.failover.handle_attached(now, tunnel.suspicion());
        self.node_wait.handle_attached();
        if self.is_elsewhere() {
            // The server that has the tunnel is not called this way any more.
            self.dialer.set_node(None);
        }
        (self.is_new, self.next_path) = (false, None);
        (self.attached_at, self.preferred_at) = (Instant::now(), Instant::now());
        // The previous carrier's progress may only show now.
        self.note_progress(tunnel);
    }

    /// Handles the loss of the carrier.
    pub(super) fn handle_lost(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) {
        self.is_new = tunnel.id().is_none();
        self.note_progress(tunnel);
        if end.is_by_silence() {
            self.failover.handle_dead(now, random());
        } else {
            self.failover.handle_lost(now, random());
        }
    }

    /// Handles the replacement of the tunnel by a new one.
    pub(super) fn handle_restart(&mut self, now: Time) {
        self.is_new = true;
        self.dialer.set_node(None);
        let is_settled = self.attached_at.elapsed() >= SETTLED;
        self.failover.handle_restart(now, random(), is_settled);
    }

    /// Handles the change to another of the user's keys.
    pub(super) fn handle_other_key(&mut self, now: Time) {
        self.failover.handle_restart(now, random(), true);
    }

    /// Handles a refusal of the attach.
    pub(super) fn handle_refused(&mut self, now: Time) {
        self.failover.handle_refused(now, random());
    }

    /// Handles the suspicion that the carrier is dead, or (`None`) its end. Returns whether the
    /// suspicion is new.
    pub(super) fn handle_suspected(&mut self, now: Time, why: Option<Suspicion>) -> bool {
        match why {
            Some(why) => self.failover.handle_suspected(now, why),
            None => {
                self.failover.handle_relieved(now);
                false
            }
        }
    }

    /// Handles a change of the network that calls for a new carrier: over this path, if
    /// it is known.
    pub(super) fn handle_moved(&mut self, now: Time, path: Option<NetworkPath>) {
        if path.is_some() {
            self.next_path = path;
        }
        self.failover.handle_moved(now);
    }

    /// Handles the loss of every path to the server.
    pub(super) fn handle_offline(&mut self) {
        self.next_path = None;
    }

    /// Handles the user's request for a new carrier.
    pub(super) fn handle_requested(&mut self, now: Time) {
        self.failover.request(now);
    }

    /// Checks from time to time whether there is a better path: the one that the system would
    /// choose, or a preferred server.
    pub(super) fn prefer(&mut self, now: Time) {
        if self.preferred_at.elapsed() < PREFERENCE_PERIOD {
            return;
        }
        self.preferred_at = Instant::now();
        let chosen = self.dialer.chosen_path();
        let is_elsewhere = chosen.is_some() && chosen.as_ref() != self.current_path();
        if is_elsewhere || self.server() > 0 {
            self.next_path = chosen;
            self.failover.prefer(now);
        }
    }
}

/// Returns a random number for the jitter. A lack of randomness does not matter here.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}
