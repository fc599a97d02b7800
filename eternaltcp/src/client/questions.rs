//! Questions to the user or an agent while a carrier is made. There is one at a time, and meanwhile
//! nothing is dialled or abandoned.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use eternaltcp_tls::SigningPermit;

/// The questions of one client. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(super) struct Questions(Arc<OpenQuestions>);

#[derive(Default, Debug)]
struct OpenQuestions {
    open: AtomicUsize,
    turn: Arc<Turn<()>>,
}

/// A question that is open while this lives.
#[derive(Debug)]
pub(super) struct Open(Arc<OpenQuestions>);

/// One attempt's right to ask its agent. Its question stays open until the attempt is dropped, and
/// after that it cannot ask any more.
#[derive(Debug)]
pub(super) struct AgentAccess {
    inner: Arc<OpenQuestions>,
    asked: Arc<Mutex<PendingQuestion>>,
}

#[derive(Default, Debug)]
struct PendingQuestion {
    is_over: bool,
    held: Option<Arc<HeldTurn>>,
}

/// The turn, and its question.
#[derive(Debug)]
struct HeldTurn(
    #[expect(dead_code, reason = "held")] OwnedMutexGuard<()>,
    #[expect(dead_code, reason = "held")] Open,
);

impl Questions {
    /// Returns whether a question is open.
    pub(super) fn are_open(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    /// Opens a question.
    pub(super) fn open(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(&self.0))
    }

    /// Creates the right to ask for an attempt whose key an agent holds.
    pub(super) fn asker(&self) -> AgentAccess {
        AgentAccess { inner: Arc::clone(&self.0), asked: Arc::default() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AgentAccess {
    /// Waits for the turn on the thread that will ask. When the turn comes, `is_wanted` decides
    /// whether to ask.
    pub(super) fn permit(
        &self,
        is_wanted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> SigningPermit {
        let (inner, asked) = (Arc::clone(&self.inner), Arc::clone(&self.asked));
        Arc::new(move || {
            let turn = Arc::clone(&inner.turn).blocking_lock_owned();
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_over || !is_wanted() {
                return None;
            }
            let held = Arc::new(HeldTurn(turn, Questions(Arc::clone(&inner)).open()));
            asked.held = Some(Arc::clone(&held));
            Some(Box::new(held) as Box<dyn Any>)
        })
    }
}

impl Drop for AgentAccess {
    fn drop(&mut self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        (asked.is_over, asked.held) = (true, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn one_question_is_asked_at_a_time_and_none_for_an_attempt_that_is_over() {
        let questions = Questions::default();
        let (first, second) = (questions.asker(), questions.asker());
        let asking = first.permit(|| true)().unwrap();
        assert!(questions.are_open());
        let waiting = std::thread::spawn({
            let permit = second.permit(|| true);
            move || permit().is_none()
        });
        drop(asking);
        assert!(questions.are_open(), "until the attempt is over");
        drop(second);
        drop(first);
        assert!(waiting.join().unwrap(), "it is not asked any more");
        assert!(!questions.are_open());
    }

    #[test]
    fn a_question_is_not_asked_if_its_key_failed_while_it_waited() {
        let questions = Questions::default();
        let (first, second) = (questions.asker(), questions.asker());
        let is_tried = Arc::new(AtomicBool::new(true));
        let asking = first.permit(|| true)().unwrap();
        let waiting = std::thread::spawn({
            let is_tried = Arc::clone(&is_tried);
            let permit = second.permit(move || is_tried.load(Ordering::Relaxed));
            move || permit().is_none()
        });
        is_tried.store(false, Ordering::Relaxed);
        drop((asking, first));
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn a_question_outlives_the_attempt_that_asked_it() {
        let questions = Questions::default();
        let asker = questions.asker();
        let asking = asker.permit(|| true)().unwrap();
        drop(asker);
        assert!(questions.are_open());
        drop(asking);
        assert!(!questions.are_open());
    }
}
