//! The local sockets that have something to do.
//!
//! One task drives a tunnel and all its sockets. Each socket has its own waker, which puts the
//! session on a list and wakes the task. The task therefore looks only at sockets that are ready,
//! and is woken once for many.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use eternaltcp_proto::SessionId;

/// The sessions whose sockets woke since they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct ReadyList(Mutex<ReadyQueue>);

#[derive(Debug, Default)]
struct ReadyQueue {
    sessions: VecDeque<SessionId>,
    task: Option<Waker>,
}

impl ReadyList {
    /// Returns the next ready session. If there is none, the next one wakes `task`.
    pub(crate) fn poll_next(&self, task: &Waker) -> Option<SessionId> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = inner.sessions.pop_front();
        if next.is_none() && !inner.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            inner.task = Some(task.clone());
        }
        next
    }

    fn push(&self, session: SessionId) {
        let task = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.sessions.push_back(session);
            inner.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The waker of one socket.
#[derive(Debug)]
pub(crate) struct SocketWaker {
    session: SessionId,
    list: Arc<ReadyList>,
    is_listed: AtomicBool,
}

impl SocketWaker {
    pub(crate) fn new(session: SessionId, list: Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { session, list, is_listed: AtomicBool::new(false) })
    }

    /// Prepares to look at the socket: a wake from now on counts.
    pub(crate) fn take(&self) {
        self.is_listed.store(false, Ordering::Release);
    }
}

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            self.list.push(self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_listed_once_until_it_is_looked_at() {
        let list = Arc::new(ReadyList::default());
        let id = SessionId::new(1).unwrap();
        let socket = SocketWaker::new(id, Arc::clone(&list));
        socket.wake_by_ref();
        socket.wake_by_ref();
        assert_eq!(list.poll_next(Waker::noop()), Some(id));
        assert_eq!(list.poll_next(Waker::noop()), None);
        socket.wake_by_ref();
        assert_eq!(list.poll_next(Waker::noop()), None, "not looked at yet");
        socket.take();
        socket.wake_by_ref();
        assert_eq!(list.poll_next(Waker::noop()), Some(id));
    }
}
