//! Carriers that stand by for a tunnel, or have joined its attached one: their
//! places, and what ends them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eternaltcp_proto::{Refusal, RefusalCode, TunnelId};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::Context;
use super::guest::{Guest, Wanted};
use super::registry::Entry;
use super::unwelcome::Unwelcome;
use crate::driver::{Command, Handle};
use crate::log_limit::limited;
use crate::net::slots::Slot;

/// The carriers that stand by for one tunnel; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Standbys(Arc<Mutex<Vec<Place>>>);

#[derive(Debug)]
struct Place {
    from: IpAddr,
    over: Arc<Notify>,
    has_joined: bool,
}

impl Standbys {
    /// Ends the carriers from addresses that are not admitted.
    pub(super) fn judge(&self, is_admitted: impl Fn(IpAddr) -> bool) {
        let places = self.lock();
        let denied = places.iter().filter(|place| !is_admitted(place.from));
        denied.for_each(|place| place.over.notify_one());
    }

    /// A place, if there are less than `most`; it is told by the notification
    /// when it is over.
    fn enter(&self, from: IpAddr, most: usize) -> Option<Arc<Notify>> {
        let mut places = self.lock();
        let waiting = places.iter().filter(|place| !place.has_joined).count();
        (waiting < most).then(|| {
            let over = Arc::new(Notify::new());
            places.push(Place { from, over: Arc::clone(&over), has_joined: false });
            over
        })
    }

    /// One of them has joined, and stands by no more.
    fn join(&self, over: &Arc<Notify>) {
        let mut places = self.lock();
        let joined = places.iter_mut().filter(|place| Arc::ptr_eq(&place.over, over));
        joined.for_each(|place| place.has_joined = true);
    }

    fn leave(&self, over: &Arc<Notify>) {
        self.lock().retain(|place| !Arc::ptr_eq(&place.over, over));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A standby carrier's place, and its descriptor's; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    standbys: Standbys,
    over: Arc<Notify>,
    _slot: Slot,
}

impl Seat {
    /// Takes a place for a carrier that was judged.
    ///
    /// # Errors
    /// When the tunnel has as many as it may have, or no descriptor is left.
    pub(super) fn take(context: &Context, entry: &Entry, from: IpAddr) -> Result<Self, Refusal> {
        let most = context.limits.standbys_per_tunnel;
        let full = || {
            context.notices.reached("--max-standbys", "a carrier that is to stand by is refused");
            let advice = format!("{most} carriers stand by for the tunnel");
            Refusal::for_now(RefusalCode::LimitReached, advice)
        };
        let slot = context.slots.of_key(&entry.user).try_take_for_tunnel().ok_or_else(|| {
            let advice = "the server has no descriptors left for this key: try later";
            Refusal::for_now(RefusalCode::LimitReached, advice)
        })?;
        let over = entry.standbys.enter(from, most).ok_or_else(full)?;
        Ok(Self { standbys: entry.standbys.clone(), over, _slot: slot })
    }

    /// What tells that the place is taken away.
    pub(super) fn over(&self) -> Arc<Notify> {
        Arc::clone(&self.over)
    }
}

/// The place of a carrier that has joined the attached one. The tunnel is
/// detached when the place is taken away; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Joiner {
    _seat: Seat,
    watch: AbortHandle,
}

impl Joiner {
    pub(super) fn new(seat: Seat, handle: Handle) -> Self {
        seat.standbys.join(&seat.over);
        let over = seat.over();
        let watch = tokio::spawn(async move {
            over.notified().await;
            let why = "the address of a carrier that has joined is not admitted any more";
            handle.send(Command::Detach(why.to_owned())).await;
        });
        Self { _seat: seat, watch: watch.abort_handle() }
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.standbys.leave(&self.over);
    }
}

/// Lets a client stand by until it wants its carrier, in the place of `over`.
pub(super) async fn stand_by(
    context: &Context,
    entry: &Entry,
    id: TunnelId,
    guest: &mut Guest,
    over: &Notify,
) -> Result<Wanted, Unwelcome> {
    let from = guest.from;
    limited!(&context.log.of(from), info, "tunnel {id}: a carrier from {from} stands by");
    let result = tokio::select! {
        result = guest.stand_by(context.limits.standby_silence) => result,
        () = over.notified() => Err(Unwelcome::Over),
        () = entry.handle.closed() => Err(Unwelcome::Over),
    };
    if let Err(why) = &result {
        let limit = context.log.of(from);
        limited!(&limit, info, "tunnel {id}: the carrier from {from} stands by no more: {why}");
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_few_and_come_back_and_a_denied_address_loses_its_own() {
        let standbys = Standbys::default();
        let [here, there] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        let first = standbys.enter(here, 2).unwrap();
        let second = standbys.enter(there, 2).unwrap();
        assert!(standbys.enter(here, 2).is_none());
        standbys.judge(|from| from == here);
        second.notified().await;
        standbys.leave(&second);
        let third = standbys.enter(here, 2).unwrap();
        assert!(standbys.enter(here, 2).is_none());
        standbys.join(&third);
        assert!(standbys.enter(here, 2).is_some(), "who has joined stands by no more");
        standbys.judge(|_| false);
        // They are told also if they did not listen when it was decided.
        first.notified().await;
        third.notified().await;
    }
}
