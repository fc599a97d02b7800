//! The title of the terminal while the path is away: `last contact 12 s ago: host`.
//!
//! The terminal belongs to ssh, and what it shows to a program at the server. So nothing is written
//! to the screen itself, and the title is changed only where that cannot disturb a sequence of
//! somebody else: see [`OutputPace`], and `docs/decisions/etcp-ssh.md`.

mod pace;
mod terminal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eternaltcp::client::ClientMonitor;
use eternaltcp::status::{EventKind, TunnelCondition, TunnelEvent};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};

use pace::OutputPace;
pub(crate) use terminal::{TerminalTitle, is_wanted};

/// The silence after which the title says so.
const AWAY: Duration = Duration::from_secs(2);

/// The interval at which it is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// The title, and what is known of the bytes that the terminal was given. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PathTitle(Arc<Mutex<TitleState>>);

#[derive(Debug)]
struct TitleState {
    title: TerminalTitle,
    pace: OutputPace,
}

impl PathTitle {
    pub(crate) fn new(title: TerminalTitle) -> Self {
        Self(Arc::new(Mutex::new(TitleState { title, pace: OutputPace::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, TitleState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that bytes are about to be given to ssh. The title is restored first: after them, the
    /// terminal may be in the middle of a sequence.
    pub(crate) fn before_output(&self, length: usize) {
        let mut state = self.lock();
        state.title.restore();
        state.pace.note(Instant::now(), length);
    }

    /// Shows how long there was no contact, if there was none for a while.
    fn show(&self, contact: Instant, now: Instant) {
        let mut state = self.lock();
        let silence = now.saturating_duration_since(contact);
        if silence < AWAY {
            state.title.restore();
        } else if state.pace.is_settled(contact) {
            state.title.show(silence);
        }
    }

    fn restore(&self) {
        self.lock().title.restore();
    }

    /// Keeps the title right for as long as the client lives. Dropping the future restores the title.
    pub(crate) async fn follow(self, client: ClientMonitor) {
        let mut events = client.events();
        let _restored = RestoredTitle(&self);
        loop {
            match events.recv().await {
                Ok(event) if is_away(event.kind) => self.count(&client, &mut events, event).await,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Shows the time since the last contact until there is one.
    async fn count(
        &self,
        client: &ClientMonitor,
        events: &mut Receiver<TunnelEvent>,
        mut event: TunnelEvent,
    ) {
        let mut contact = Instant::now();
        loop {
            contact = last_contact(client).await.unwrap_or(contact);
            let now = Instant::now();
            self.show(contact, now);
            let next = (contact + AWAY).max(now + TICK);
            tokio::select! {
                news = events.recv() => match news {
                    Ok(news) => event = news,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return self.restore(),
                },
                () = sleep_until(next) => {}
            }
            if !is_away(event.kind) {
                return self.restore();
            }
        }
    }
}

/// Restores the title when it is dropped.
struct RestoredTitle<'a>(&'a PathTitle);

impl Drop for RestoredTitle<'_> {
    fn drop(&mut self) {
        self.0.restore();
    }
}

fn is_away(kind: EventKind) -> bool {
    matches!(kind, EventKind::Doubted | EventKind::Lost)
}

/// Returns the time at which data last arrived on the carrier in use. A carrier that is not
/// attached yet proves nothing.
async fn last_contact(client: &ClientMonitor) -> Option<Instant> {
    let status = client.status().await?;
    let is_attached = matches!(status.state, TunnelCondition::Attached | TunnelCondition::Doubted);
    let silent = status.carrier.filter(|_| is_attached)?.silent?;
    Instant::now().checked_sub(silent)
}
