//! Moves a client to another server when the one that has its tunnel leaves.
//!
//! A second tunnel is made, with any server but that one, which refuses it. Once it is attached, new
//! sessions are opened there, and the listeners at the server are requested there. The tunnel before it
//! ends with its last session. Until then, and while no other server can be had, nothing changes.

use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::Backoff;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::dial::Heritage;
use super::dialing::random;
use super::start::{StartedTunnel, TunnelOrigin, TunnelTask, start_tunnel};
use super::succession::{PresentUsers, Succession, TunnelAccess};
use super::{ClientConfig, ClientEnd};
use crate::report::counted;

/// The recommended time within which a client begins to move: each one chooses its own moment, so that
/// the clients of a server do not all come to the others at once.
pub const MOVE_WITHIN: Duration = Duration::from_secs(5);

/// The maximum number of replaced tunnels of a client at a time. Further moves wait for the end of
/// one.
pub(super) const MAX_ENDING: usize = 3;

/// Pauses between two attempts to make a tunnel with another server.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The task of a client, which has those of its tunnels.
pub(super) struct Mover {
    succession: Arc<Succession>,
    config: ClientConfig,
    heritage: Heritage,
    /// The tasks of the tunnels, by their numbers.
    tasks: JoinSet<(u32, ClientEnd)>,
    /// The number of the newest tunnel.
    newest: u32,
    users: Option<PresentUsers>,
    stage: MoveStage,
    pace: Backoff,
    /// The log says why there is no other server yet.
    is_told: bool,
    /// The end of the present tunnel.
    end: Option<ClientEnd>,
}

/// The progress of a move.
enum MoveStage {
    /// The present server does not leave, or no move is possible now.
    Staying,
    /// A tunnel is made at this time.
    Waiting(Instant),
    /// A tunnel was made, and waits for its server.
    Making(TunnelAccess),
}

impl Mover {
    pub(super) fn new(
        succession: Arc<Succession>,
        users: PresentUsers,
        config: ClientConfig,
        heritage: Heritage,
        tunnels: Vec<(u32, TunnelTask)>,
    ) -> Self {
        let newest = tunnels.iter().map(|(generation, _)| *generation).max().unwrap_or_default();
        let mut mover = Self {
            succession,
            config,
            heritage,
            tasks: JoinSet::new(),
            newest,
            users: Some(users),
            stage: MoveStage::Staying,
            pace: Backoff::new(MIN_PAUSE, MAX_PAUSE).unwrap_or_default(),
            is_told: false,
            end: None,
        };
        tunnels.into_iter().for_each(|(generation, task)| mover.watch(generation, task));
        mover
    }

    /// Runs until the last tunnel has ended. Returns how the present one did.
    pub(super) async fn run(mut self) -> ClientEnd {
        loop {
            let present = self.succession.current();
            let (mut leaves, mut draining) = (present.leaves, self.succession.draining());
            leaves.mark_unchanged();
            draining.mark_unchanged();
            self.decide();
            let due = self.stage.due();
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    if let Ok((generation, end)) = ended {
                        self.handle_end(generation, end);
                    }
                    if self.tasks.is_empty() {
                        return self.end.unwrap_or(ClientEnd::Done);
                    }
                }
                () = change(&mut leaves) => {}
                () = change(&mut draining) => {}
                () = due => self.proceed(),
            }
        }
    }

    /// Returns whether the client should move.
    fn wants_to_move(&self) -> bool {
        let is_asked = *self.succession.current().leaves.borrow();
        is_asked && self.end.is_none() && !self.succession.is_last()
    }

    /// Begins a move, or gives one up: the server stays, or its tunnel was replaced otherwise.
    fn decide(&mut self) {
        let Some(within) = self.config.move_within else { return };
        match (&self.stage, self.wants_to_move()) {
            (MoveStage::Staying, true) if self.succession.ending_count() < MAX_ENDING => {
                self.pace.reset();
                self.is_told = false;
                let share = f64::from(random()) / f64::from(u32::MAX);
                self.stage = MoveStage::Waiting(Instant::now() + within.mul_f64(share));
            }
            (MoveStage::Waiting(_), false) => self.stage = MoveStage::Staying,
            (MoveStage::Making(_), false) => self.give_up(),
            _ => {}
        }
    }

    fn give_up(&mut self) {
        self.succession.set_coming(None);
        if let MoveStage::Making(tunnel) = std::mem::replace(&mut self.stage, MoveStage::Staying) {
            tokio::spawn(async move { tunnel.close().await });
        }
    }

    /// Does what is due: makes a tunnel, or uses the one that was made.
    fn proceed(&mut self) {
        match std::mem::replace(&mut self.stage, MoveStage::Staying) {
            MoveStage::Waiting(_) => self.make(),
            MoveStage::Making(tunnel) => {
                let before = self.succession.current();
                let sessions = before.shared.sessions();
                let going_on = counted(sessions, "session continues", "sessions continue");
                before
                    .span
                    .in_scope(|| info!("new sessions go to another server; {going_on} here"));
                if let Some(users) = self.users.take() {
                    self.users = Some(self.succession.succeed(tunnel, users));
                }
            }
            MoveStage::Staying => {}
        }
    }

    fn make(&mut self) {
        self.newest += 1;
        let origin = TunnelOrigin::Successor(self.newest);
        match start_tunnel(self.config.clone(), origin, &self.heritage, None) {
            Ok(StartedTunnel { access, task, .. }) => {
                self.watch(access.generation, task);
                self.succession.set_coming(Some(access.clone()));
                self.stage = MoveStage::Making(access);
            }
            Err(error) => self.retry(&error.to_string()),
        }
    }

    /// Waits before the next attempt.
    fn retry(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            let present = self.succession.current();
            present.span.in_scope(|| {
                warn!("no other server takes the client yet, so new sessions stay here: {why}");
            });
        }
        let pause = self.pace.next_delay(random()).max(MIN_PAUSE);
        self.stage = MoveStage::Waiting(Instant::now() + pause);
    }

    fn watch(&mut self, generation: u32, task: TunnelTask) {
        self.tasks.spawn(async move {
            let failed = |error| ClientEnd::Failed(format!("the client failed: {error}"));
            (generation, task.await.unwrap_or_else(failed))
        });
    }

    fn handle_end(&mut self, generation: u32, end: ClientEnd) {
        let is_made = |tunnel: &TunnelAccess| tunnel.generation == generation;
        if matches!(&self.stage, MoveStage::Making(tunnel) if is_made(tunnel)) {
            self.succession.set_coming(None);
            self.stage = MoveStage::Staying;
            return self.retry(&end.to_string());
        }
        if let Some(tunnel) = self.succession.forget(generation) {
            return tunnel.span.in_scope(|| match end {
                ClientEnd::Done => info!("the tunnel was left, and ends with its last session"),
                end => warn!("the tunnel was left, and its sessions are reset: {end}"),
            });
        }
        if self.succession.current().generation == generation {
            self.end = Some(end);
        }
    }
}

impl MoveStage {
    /// Waits until there is something to do.
    fn due(&self) -> impl Future<Output = ()> + Send + use<> {
        let (at, made) = match self {
            Self::Staying => (None, None),
            Self::Waiting(at) => (Some(*at), None),
            Self::Making(tunnel) => (None, Some(Arc::clone(&tunnel.shared))),
        };
        async move {
            match (at, made) {
                (Some(at), _) => sleep_until(at).await,
                (_, Some(made)) => made.attached().await,
                (None, None) => std::future::pending().await,
            }
        }
    }
}

/// Waits for a change. A channel whose other end is gone does not change any more.
async fn change(it: &mut watch::Receiver<bool>) {
    if it.changed().await.is_err() {
        std::future::pending().await
    }
}
