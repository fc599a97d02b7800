//! Standby carriers and joined carriers of a tunnel: their places, and how they end.

use std::net::IpAddr;
use std::sync::Arc;

use eternaltcp_proto::{Refusal, RefusalCode};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::Context;
use super::accept_failure::AcceptFailure;
use super::event::ServerHandle;
use super::handshake::{Handshake, Promotion};
use super::registry::{Standbys, TunnelEntry};
use crate::driver::DriverCommand;
use crate::log_limit::limited;
use crate::net::slots::SlotGuard;

/// The place of a standby carrier, and its descriptor's; released when dropped.
#[derive(Debug)]
pub(super) struct StandbySlot {
    standbys: Standbys,
    over: Arc<Notify>,
    _descriptor: SlotGuard,
}

impl StandbySlot {
    /// Takes a place for a checked carrier.
    ///
    /// # Errors
    /// The tunnel has the maximum number, or no descriptor is left.
    pub(super) fn take(
        context: &Context,
        entry: &TunnelEntry,
        from: IpAddr,
    ) -> Result<Self, Refusal> {
        let most = context.limits_of(&entry.user, entry.from()).server.standbys_per_tunnel;
        let full = || {
            context
                .notices
                .reached("--max-standbys", "a carrier that wants to stand by is refused");
            let advice = format!("{most} carriers stand by for the tunnel");
            Refusal::for_now(RefusalCode::LimitReached, advice)
        };
        let slot = context.slots.of_key(&entry.user).try_take_for_tunnel().ok_or_else(|| {
            let advice = "the server has no descriptors left for this key: try later";
            Refusal::for_now(RefusalCode::LimitReached, advice)
        })?;
        let over = entry.standbys.enter(from, most).ok_or_else(full)?;
        Ok(Self { standbys: entry.standbys.clone(), over, _descriptor: slot })
    }

    /// Returns the notification that the place is withdrawn.
    pub(super) fn over(&self) -> Arc<Notify> {
        Arc::clone(&self.over)
    }
}

/// The place of a carrier that has joined the attached one. The tunnel is detached when the place
/// is withdrawn; dropping this releases it.
#[derive(Debug)]
pub(super) struct JoinedSlot {
    _slot: StandbySlot,
    watch: AbortHandle,
}

impl JoinedSlot {
    pub(super) fn new(slot: StandbySlot, handle: ServerHandle) -> Self {
        slot.standbys.join(&slot.over);
        let over = slot.over();
        let watch = tokio::spawn(async move {
            over.notified().await;
            let why = "the address of a carrier that has joined is no longer admitted";
            handle.send(DriverCommand::Detach(why.to_owned())).await;
        });
        Self { _slot: slot, watch: watch.abort_handle() }
    }
}

impl Drop for JoinedSlot {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Drop for StandbySlot {
    fn drop(&mut self) {
        self.standbys.leave(&self.over);
    }
}

/// Lets a client stand by until it sends a request, in the place of `over`.
pub(super) async fn stand_by(
    context: &Context,
    entry: &TunnelEntry,
    handshake: &mut Handshake,
    over: &Notify,
) -> Result<Promotion, AcceptFailure> {
    let from = handshake.from;
    let span = &entry.span;
    limited!(&context.log.of(from), info, parent: span, peer = %from, "a carrier stands by");
    let result = tokio::select! {
        result = handshake.stand_by(context.rules().limits.standby_silence) => result,
        () = over.notified() => Err(AcceptFailure::Over),
        () = entry.handle.closed() => Err(AcceptFailure::Over),
    };
    if let Err(why) = &result {
        let limit = context.log.of(from);
        limited!(&limit, info, parent: span, peer = %from, "a carrier no longer stands by: {why}");
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_limited_and_released_and_a_denied_address_loses_its_own() {
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
        // The notification is stored, so it arrives even if nothing waited at the time.
        first.notified().await;
        third.notified().await;
    }
}
