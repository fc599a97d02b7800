//! The pages that are open: each gets the state of the proxy once a second.
//!
//! The state is made once for all of them, and only while there is one. A page has one event in its
//! queue: while it takes nothing, newer ones are skipped, and `http` ends its connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::FigureSource;
use super::pauses::PauseHistory;
use super::state::ObservedState;

/// The maximum number of pages that are open at once: half of the connections, so that metrics
/// always have some.
pub(super) const MAX_PAGES: usize = 4;

/// Time between two events.
const PERIOD: Duration = Duration::from_secs(1);

/// Time that a page waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 2000;

/// The events for pages.
#[derive(Debug)]
pub(super) struct PageFeed {
    source: Arc<FigureSource>,
    pauses: PauseHistory,
    pages: Mutex<Vec<OpenPage>>,
    joined: Notify,
}

#[derive(Debug)]
struct OpenPage {
    events: mpsc::Sender<Bytes>,
    has_names: bool,
}

impl PageFeed {
    pub(super) fn new(source: FigureSource) -> Self {
        Self {
            source: Arc::new(source),
            pauses: PauseHistory::default(),
            pages: Mutex::default(),
            joined: Notify::new(),
        }
    }

    pub(super) fn source(&self) -> &Arc<FigureSource> {
        &self.source
    }

    /// Returns the events for another page, or `None` if there are too many.
    pub(super) fn join(&self, has_names: bool) -> Option<mpsc::Receiver<Bytes>> {
        let mut pages = self.pages();
        if pages.len() >= MAX_PAGES {
            return None;
        }
        let (events, receiver) = mpsc::channel(1);
        pages.push(OpenPage { events, has_names });
        self.joined.notify_one();
        Some(receiver)
    }

    /// Returns the event for a page that finds no place.
    pub(super) fn full() -> Bytes {
        Bytes::from(format!("retry: {RETRY_MS}\nevent: full\ndata: {MAX_PAGES}\n\n"))
    }

    /// Makes events, and remembers pauses, until it is cancelled.
    pub(super) async fn run(&self) {
        tokio::join!(self.remember(), self.publish());
    }

    async fn remember(&self) {
        let mut events = self.source.subject.events();
        loop {
            match events.recv().await {
                Ok(event) => self.pauses.note(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn publish(&self) {
        loop {
            while self.pages().is_empty() {
                self.joined.notified().await;
            }
            let state = Arc::new(ObservedState::take(&self.source).await);
            for has_names in [true, false] {
                if self.pages().iter().any(|page| page.has_names == has_names) {
                    let (state, pauses) = (Arc::clone(&state), self.pauses.all());
                    // Hundreds of sessions take some time to format: not on a thread that moves data.
                    let made = spawn_blocking(move || state.json(&pauses, has_names)).await;
                    let Ok(Ok(json)) = made else { continue };
                    self.send(
                        has_names,
                        &Bytes::from(format!("retry: {RETRY_MS}\ndata: {json}\n\n")),
                    );
                }
            }
            sleep(PERIOD).await;
        }
    }

    fn send(&self, has_names: bool, event: &Bytes) {
        for page in self.pages().iter().filter(|page| page.has_names == has_names) {
            // A page that has not taken the last event does not get this one.
            let _ = page.events.try_send(event.clone());
        }
    }

    /// Returns the pages that are still open.
    fn pages(&self) -> MutexGuard<'_, Vec<OpenPage>> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|page| !page.events.is_closed());
        pages
    }
}
