//! The dials of a client: begun as the core decides, each in a task of its own.

use std::collections::BTreeMap;

use eternaltcp_proto::{DialId, Failover, Occasion, Suspicion, Time};
use tokio::task::AbortHandle;

use super::dial::{DialRequest, Dialer};
use super::notice::Notice;
use super::path::Path;
use crate::driver::{Command, Handle};

/// A client's decisions about carriers, and the tasks that carry them out.
#[derive(Debug)]
pub(super) struct Dialing {
    pub(super) failover: Failover,
    pub(super) dialer: Dialer,
    handle: Handle,
    tasks: BTreeMap<DialId, Task>,
}

/// A dial under way; it is given up when this is dropped.
#[derive(Debug)]
struct Task {
    abort: AbortHandle,
    /// It proves the user's key, for a tunnel that the server did not know then.
    is_new: bool,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// What the next dials are to know.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    /// For a tunnel that the server does not know yet.
    pub(super) is_new: bool,
    /// The path that the next dial is to take, as the network has just given it.
    pub(super) path: Option<Path>,
    /// The present carrier's path.
    pub(super) current: Option<Path>,
    /// The present carrier's server, by its place in the order of preference.
    pub(super) server: usize,
}

impl Dialing {
    pub(super) fn new(now: Time, dialer: Dialer, handle: Handle) -> Self {
        Self { failover: Failover::new(now), dialer, handle, tasks: BTreeMap::new() }
    }

    /// Begins the dials that are due. Says for what, and over which further
    /// paths.
    pub(super) fn start_due(&mut self, now: Time, wish: &mut Wish) -> Vec<(Occasion, Vec<Path>)> {
        let mut started = Vec::new();
        self.end_abandoned();
        while let Some((id, occasion)) = self.failover.poll_dial(now, random()) {
            let request = self.request(occasion, wish);
            let tried = request.also.iter().chain(&request.path);
            let is_other = |path: &&Path| {
                wish.current.as_ref().is_none_or(|current| current.interface != path.interface)
            };
            started.push((occasion, tried.filter(is_other).cloned().collect()));
            self.start(id, request);
            self.end_abandoned();
        }
        started
    }

    /// Whether a dial that has ended proved the user's key rather than the tunnel's own; `None` for
    /// one that was given up.
    pub(super) fn finish(&mut self, id: DialId) -> Option<bool> {
        self.tasks.remove(&id).map(|task| task.is_new)
    }

    fn end_abandoned(&mut self) {
        while let Some(id) = self.failover.poll_abandoned() {
            self.tasks.remove(&id);
        }
    }

    fn request(&self, occasion: Occasion, wish: &mut Wish) -> DialRequest {
        let is_silent = matches!(occasion, Occasion::Loss | Occasion::Suspicion(Suspicion::Path));
        let others = || self.dialer.other_paths(wish.current.as_ref());
        DialRequest {
            is_new: wish.is_new,
            also: if is_silent { others() } else { Vec::new() },
            // Later dials take what the system chooses then.
            path: wish.path.take(),
            at_least: (occasion == Occasion::Preference && wish.server > 0).then_some(wish.server),
            // What is known to pass is small.
            is_small: matches!(occasion, Occasion::Suspicion(Suspicion::Peer | Suspicion::Answer)),
        }
    }

    fn start(&mut self, id: DialId, request: DialRequest) {
        let is_new = request.is_new;
        let (dialer, handle) = (self.dialer.clone(), self.handle.clone());
        let task = tokio::spawn(async move {
            let connected = {
                let handle = handle.clone();
                move || {
                    // If there is no room the dial's end comes all the same.
                    handle.try_send(Command::Notice(Notice::Connected(id)));
                }
            };
            let result = dialer.dial(request, connected).await;
            handle.send(Command::Notice(Notice::Dialed(id, result.map(Box::new)))).await;
        });
        self.tasks.insert(id, Task { abort: task.abort_handle(), is_new });
    }
}

/// For the jitter, the least of whose troubles is a lack of randomness.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}
