//! The preparation of a worker for the next program, while it still serves: a client makes the
//! carrier that the next program attaches.

use std::time::Duration;

use super::contact::Contact;
use super::next::{Next, Preparation};
use super::signals::UPGRADE;
use super::state::Holder;
use crate::signals::UpgradeSignal;

impl Holder {
    /// Lets the worker prepare for the next program, which is returned at once if the worker has
    /// nothing to prepare.
    pub(super) fn prepare(&mut self, next: Next) -> Option<Next> {
        let worker = self.worker.as_ref().filter(|_| self.contact.can_prepare());
        let Some(worker) = worker else { return Some(next) };
        self.contact.want_preparation();
        let _ = worker.signal(UPGRADE);
        self.preparation = Some(Preparation::begin(next));
        None
    }

    /// Returns the next program, if the worker has prepared for it, cannot, or takes too long.
    pub(super) fn poll_preparation(&mut self) -> Option<Next> {
        let preparation = self.preparation.as_ref()?;
        let is_over = self.contact.is_prepared()
            || !self.contact.can_prepare()
            || preparation.left().is_zero();
        if !is_over {
            return None;
        }
        let next = self.preparation.take()?.into_next();
        if self.pending.asks_to_end() {
            self.fail_upgrade("the program is asked to end");
            return None;
        }
        Some(next)
    }

    /// Returns the time until [`Self::poll_preparation`] must be called again, if a preparation is
    /// in progress.
    pub(super) fn preparation_left(&self) -> Option<Duration> {
        self.preparation.as_ref().map(Preparation::left)
    }
}

/// Calls `prepare` whenever the holder wants it, as long as the current runtime lives.
pub(super) fn serve<F>(contact: Contact, prepare: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let Some(mut signal) = UpgradeSignal::listen() else { return };
    contact.set_can_prepare();
    tokio::spawn(async move {
        loop {
            signal.recv().await;
            // Others may send the signal, too.
            if contact.is_preparation_wanted() {
                prepare().await;
                contact.prepared();
            }
        }
    });
}
