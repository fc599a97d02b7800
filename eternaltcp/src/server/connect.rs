//! Connects a session to its target.

use std::net::SocketAddr;

use eternaltcp_proto::{Cause, Reset};
use tokio::time::Instant;

use super::Context;
use super::registry::TunnelEntry;
use super::resolver::resolvers;
use crate::address::Target;
use crate::net::origin::{Origin, proxy_header};
use crate::net::reach::{AttemptSlots, Reach, cause_of, first, reach};
use crate::net::stream::Stream;
use crate::policy::{Admission, TargetDecision};
use crate::target::{Requested, decode_open};

/// Connects a session to its target, if the key may reach it, within a time limit.
pub(super) async fn connect(
    context: &Context,
    entry: &TunnelEntry,
    target: &Target,
    origin: Option<&Origin>,
) -> Result<Stream, Reset> {
    let (admission, needs_address) = judge(context, entry, target)?;
    let places = take_places(context, entry)?;
    let rules = context.rules();
    let header = rules.send_proxy.then(|| proxy_header(origin));
    let wanted = Reach {
        target,
        header: header.as_deref().unwrap_or_default(),
        patience: rules.limits.connect_timeout,
        lookups: &context.lookups,
        user: &Some(entry.user.clone()),
        places,
    };
    reach(wanted, |addresses| {
        if !needs_address {
            return Ok(addresses);
        }
        let decided = rules.targets.decide_addresses(&admission, target, &addresses);
        decided.map_err(|refusal| not_permitted(target, &refusal.to_string()))
    })
    .await
}

/// Applies the policy to a target that is not dialled.
///
/// # Errors
/// The reset with the refusal.
pub(super) async fn permit(
    context: &Context,
    entry: &TunnelEntry,
    target: &Target,
) -> Result<(), Reset> {
    let (admission, needs_address) = judge(context, entry, target)?;
    if let (true, Target::Tcp { host, port }) = (needs_address, target) {
        let user = Some(entry.user.clone());
        let addresses = context.lookups.resolve(&user, host, *port).await?;
        let decided = context.rules().targets.decide_addresses(&admission, target, &addresses);
        decided.map_err(|refusal| not_permitted(target, &refusal.to_string()))?;
    }
    Ok(())
}

/// Returns why a session must end after its key was narrowed, given the payload of its `open` and
/// the address to which it is connected.
///
/// A key that is not admitted at all ends its tunnel or its carrier elsewhere. A listener is
/// checked by itself, and connections that it has accepted continue.
pub(super) fn forbids(
    context: &Context,
    admission: &Admission,
    payload: &[u8],
    address: Option<SocketAddr>,
) -> Option<Reset> {
    let rules = context.rules();
    let policy = &rules.targets;
    let target = match decode_open(payload)?.wanted {
        Requested::Default => rules.target.clone(),
        Requested::Named(target) => target,
        Requested::Resolver => {
            let refusal = policy.decide_resolver(admission, address?).err()?;
            let detail = format!("the server's resolver: {refusal}");
            return Some(Reset::with_detail(Cause::NotPermitted, detail));
        }
        Requested::Listen(_) | Requested::Accepted(_) => return None,
    };
    let refusal = match policy.decide_name(admission, &target) {
        TargetDecision::Allowed => None,
        TargetDecision::Denied(refusal) => Some(refusal),
        TargetDecision::NeedsAddress => {
            policy.decide_addresses(admission, &target, &[address?]).err()
        }
    };
    refusal.map(|refusal| not_permitted(&target, &refusal.to_string()))
}

/// Connects to the first of this machine's resolvers that is permitted and answers.
pub(super) async fn dial_resolver(context: &Context, entry: &TunnelEntry) -> Result<Stream, Reset> {
    let rules = context.rules();
    let deadline = Instant::now() + rules.limits.connect_timeout;
    let failed = |cause, why: &dyn std::fmt::Display| {
        Reset::with_detail(cause, format!("the server's resolver: {why}"))
    };
    let admission = context
        .keys()
        .judge(&entry.user, entry.from())
        .map_err(|denial| failed(Cause::NotPermitted, &denial))?;
    let resolvers = resolvers().await;
    let judged = resolvers
        .iter()
        .map(|resolver| rules.targets.decide_resolver(&admission, *resolver).map(|()| *resolver));
    let permitted: Vec<_> = judged.clone().flatten().collect();
    if let (true, Some(refusal)) = (permitted.is_empty(), judged.flat_map(Result::err).next()) {
        return Err(failed(Cause::NotPermitted, &refusal));
    }
    let stream = first(permitted, deadline, take_places(context, entry)?).await;
    stream.map_err(|error| failed(cause_of(&error), &error))
}

fn take_places(context: &Context, entry: &TunnelEntry) -> Result<AttemptSlots, Reset> {
    let slots = context.slots.of_key(&entry.user);
    let own = slots.try_take().ok_or_else(|| {
        Reset::with_detail(Cause::LimitReached, "the server has no descriptors left for this key")
    })?;
    Ok(AttemptSlots::new(own, slots))
}

/// Checks the key again, by the current file, and the target by its name. Returns whether its
/// addresses must be checked too.
fn judge(
    context: &Context,
    entry: &TunnelEntry,
    target: &Target,
) -> Result<(Admission, bool), Reset> {
    let admission = context
        .keys()
        .judge(&entry.user, entry.from())
        .map_err(|denial| not_permitted(target, &denial.to_string()))?;
    match context.rules().targets.decide_name(&admission, target) {
        TargetDecision::Allowed => Ok((admission, false)),
        TargetDecision::NeedsAddress => Ok((admission, true)),
        TargetDecision::Denied(refusal) => Err(not_permitted(target, &refusal.to_string())),
    }
}

fn not_permitted(target: &Target, why: &str) -> Reset {
    Reset::with_detail(Cause::NotPermitted, format!("{target}: {why}"))
}
