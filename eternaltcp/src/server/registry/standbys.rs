//! The standby carriers and the joined carriers of a tunnel.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The standby carriers of one tunnel; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Standbys(Arc<Mutex<Vec<Occupant>>>);

#[derive(Debug)]
struct Occupant {
    from: IpAddr,
    over: Arc<Notify>,
    has_joined: bool,
}

impl Standbys {
    /// Ends the carriers from addresses that are no longer admitted.
    pub(in crate::server) fn judge(&self, is_admitted: impl Fn(IpAddr) -> bool) {
        let occupants = self.lock();
        let denied = occupants.iter().filter(|occupant| !is_admitted(occupant.from));
        denied.for_each(|occupant| occupant.over.notify_one());
    }

    /// Returns a place, if there are fewer than `most`; the notification reports its end.
    pub(in crate::server) fn enter(&self, from: IpAddr, most: usize) -> Option<Arc<Notify>> {
        let mut occupants = self.lock();
        let waiting = occupants.iter().filter(|occupant| !occupant.has_joined).count();
        (waiting < most).then(|| {
            let over = Arc::new(Notify::new());
            occupants.push(Occupant { from, over: Arc::clone(&over), has_joined: false });
            over
        })
    }

    /// Records that one of them has joined, and no longer stands by.
    pub(in crate::server) fn join(&self, over: &Arc<Notify>) {
        let mut occupants = self.lock();
        let joined = occupants.iter_mut().filter(|occupant| Arc::ptr_eq(&occupant.over, over));
        joined.for_each(|occupant| occupant.has_joined = true);
    }

    pub(in crate::server) fn leave(&self, over: &Arc<Notify>) {
        self.lock().retain(|occupant| !Arc::ptr_eq(&occupant.over, over));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Occupant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
