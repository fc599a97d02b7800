//! How many descriptors there are, and for whom.

use std::io;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that are never given to sessions, whatever the limit is: the
/// standard ones, listeners, the runtime's own, files, and some carriers.
const LEAST_RESERVE: u64 = 64;

/// The part of all descriptors that is kept for carriers.
const RESERVED_PART: u64 = 8;

/// The places for sessions' sockets. Carriers have a reserve of their own, so
/// that sessions cannot lock out the carrier that would end them.
#[derive(Clone, Debug)]
pub struct Slots {
    sessions: Arc<Semaphore>,
    carriers: usize,
}

impl Slots {
    /// Raises the process's soft limit of descriptors to the hard one, and
    /// shares them out.
    ///
    /// # Errors
    /// When the limit leaves no room for sessions.
    pub fn from_limit() -> io::Result<Self> {
        let hard = getrlimit(Resource::Nofile).maximum;
        // Where even that is refused, the soft limit has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let reserve = (limit / RESERVED_PART).max(LEAST_RESERVE);
        let sessions = limit.saturating_sub(reserve);
        if sessions == 0 {
            return Err(io::Error::other(format!(
                "the limit of open files is {limit}: raise it (ulimit -n) above {LEAST_RESERVE}"
            )));
        }
        Ok(Self::new(
            usize::try_from(sessions).unwrap_or(usize::MAX),
            usize::try_from(reserve / 2).unwrap_or(usize::MAX),
        ))
    }

    /// So many places for sessions, and for carriers that are not admitted yet.
    #[must_use]
    pub fn new(sessions: usize, carriers: usize) -> Self {
        let sessions = sessions.min(Semaphore::MAX_PERMITS);
        Self { sessions: Arc::new(Semaphore::new(sessions)), carriers }
    }

    /// Places for carriers that have not proved a key.
    pub(crate) fn carriers(&self) -> usize {
        self.carriers
    }

    /// A place for one session's socket, if one is free.
    pub(crate) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sessions).try_acquire_owned().ok()
    }

    /// Several places at once, if so many are free.
    pub(crate) fn try_take_many(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sessions).try_acquire_many_owned(count).ok()
    }

    /// Waits for a place.
    pub(crate) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sessions).acquire_owned().await.ok()
    }
}
