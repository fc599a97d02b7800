//! The decision about the targets that a client's sessions may reach.

use std::net::SocketAddr;

use super::{
    Admission,
    permit::{Match, Permit},
};
use crate::address::{Host, Target, canonical_ip};

/// The targets that the server permits: its default target, every `--permit`, and those of the
/// groups that have the key.
///
/// A name that nothing here could allow is not looked up. Therefore the address of the default
/// target permits that address and `localhost`, but no other name: otherwise every client could
/// query the server's DNS for any name on that port.
///
/// A target must be allowed by the server's permits and by the key's own `permitopen=`; the default
/// target is permitted, but not exempt from the latter. The decision has two stages, so that a rule
/// about addresses applies to the addresses that are dialled, and the name is resolved once:
/// [`decide_name`](Self::decide_name), and if it returns [`TargetDecision::NeedsAddress`],
/// [`decide_addresses`](Self::decide_addresses).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetPolicy {
    default: Permit,
    permits: Vec<Permit>,
    permits_resolver: bool,
}

/// The decision about a target before its name is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetDecision {
    /// It may be dialled at every address of its name.
    Allowed,
    /// It may not be dialled.
    Denied(TargetRefusal),
    /// It may be dialled at some addresses: resolve the name once, and call
    /// [`TargetPolicy::decide_addresses`].
    NeedsAddress,
}

/// The reason why a target may not be dialled. The client is told which rule to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetRefusal {
    /// No permit of the server includes the target.
    #[error("the server does not permit this target (its operator can add it with --permit)")]
    NotPermitted,
    /// The target is the server's resolver, which nothing permits.
    #[error(
        "the server does not let clients ask its resolver (its operator can add --permit-resolver)"
    )]
    ResolverNotPermitted,
    /// The key's own options do not include it.
    #[error(
        "the key may not open this target (its line in authorized_keys has permitopen= without it)"
    )]
    NotForThisKey,
}

impl TargetPolicy {
    /// Creates a policy that permits `default_target` and everything in `permits`.
    #[must_use]
    pub(crate) fn new(default_target: &Target, permits: impl IntoIterator<Item = Permit>) -> Self {
        let default = Permit::exactly(default_target);
        Self { default, permits: permits.into_iter().collect(), permits_resolver: false }
    }

    /// Also lets clients query the server's own resolver.
    #[must_use]
    pub(crate) fn permitting_resolver(self, is_permitted: bool) -> Self {
        Self { permits_resolver: is_permitted, ..self }
    }

    /// Decides about one of the server's own resolvers: it must be permitted as a resolver, or as a
    /// target with its address; the key must permit that address too.
    ///
    /// # Errors
    /// It may not be queried.
    pub(crate) fn decide_resolver(
        &self,
        admission: &Admission,
        resolver: SocketAddr,
    ) -> Result<(), TargetRefusal> {
        let resolver = canonical(resolver);
        let target = Target::Tcp { host: resolver.ip().to_string(), port: resolver.port() };
        let is_permitted = match self.decide_name(admission, &target) {
            TargetDecision::Denied(TargetRefusal::NotForThisKey) => {
                return Err(TargetRefusal::NotForThisKey);
            }
            TargetDecision::Denied(_) => false,
            TargetDecision::NeedsAddress => {
                self.decide_addresses(admission, &target, &[resolver]).is_ok()
            }
            TargetDecision::Allowed => true,
        };
        let is_permitted = is_permitted || self.permits_resolver;
        if is_permitted { Ok(()) } else { Err(TargetRefusal::ResolverNotPermitted) }
    }

    /// Decides about a target as the client named it.
    #[must_use]
    pub(crate) fn decide_name(&self, admission: &Admission, target: &Target) -> TargetDecision {
        match (admission.open.match_target(target), self.matches(admission, target)) {
            (Match::No, _) => TargetDecision::Denied(TargetRefusal::NotForThisKey),
            (_, Match::No) => TargetDecision::Denied(TargetRefusal::NotPermitted),
            (Match::Yes, Match::Yes) => TargetDecision::Allowed,
            (Match::ByAddress, Match::ByAddress) if !self.shares_a_network(admission, target) => {
                TargetDecision::Denied(TargetRefusal::NotForThisKey)
            }
            (Match::ByAddress, _) | (_, Match::ByAddress) => TargetDecision::NeedsAddress,
        }
    }

    fn matches(&self, admission: &Admission, target: &Target) -> Match {
        let default = match self.default.matches(target) {
            Match::ByAddress if !is_localhost(target) => Match::No,
            other => other,
        };
        let permits = self.permits.iter().chain(of_groups(admission));
        permits.fold(default, |best, permit| best.or(permit.matches(target)))
    }

    fn all<'a>(&'a self, admission: &'a Admission) -> impl Iterator<Item = &'a Permit> {
        std::iter::once(&self.default).chain(&self.permits).chain(of_groups(admission))
    }

    /// Returns whether some address could be in the networks of both the permits and the key.
    fn shares_a_network(&self, admission: &Admission, target: &Target) -> bool {
        let Target::Tcp { port, .. } = target else { return false };
        self.all(admission)
            .filter_map(|permit| permit.network(*port))
            .any(|network| admission.open.overlaps(&network, *port))
    }

    /// Returns those resolved addresses of a target that may be dialled. Call it for
    /// [`TargetDecision::NeedsAddress`], with the target's port in every address, and dial no others.
    ///
    /// # Errors
    /// None may be dialled.
    pub(crate) fn decide_addresses(
        &self,
        admission: &Admission,
        target: &Target,
        resolved: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, TargetRefusal> {
        let by_key = admission.open.match_target(target) == Match::Yes;
        let by_server = self.matches(admission, target) == Match::Yes;
        let of_key = |at: &SocketAddr| by_key || admission.open.has_address(at.ip(), at.port());
        let of_server = |at: &SocketAddr| {
            by_server
                || self.all(admission).any(|permit| permit.matches_address(at.ip(), at.port()))
        };
        let own: Vec<_> = resolved.iter().copied().map(canonical).filter(of_key).collect();
        if own.is_empty() && !resolved.is_empty() {
            return Err(TargetRefusal::NotForThisKey);
        }
        let dialled: Vec<_> = own.into_iter().filter(of_server).collect();
        if dialled.is_empty() { Err(TargetRefusal::NotPermitted) } else { Ok(dialled) }
    }
}

/// Returns the permits of the key's groups.
fn of_groups(admission: &Admission) -> impl Iterator<Item = &Permit> {
    admission.groups.iter().flat_map(|group| group.targets())
}

/// Returns whether the host is this machine's own name, which every system knows without a query.
fn is_localhost(target: &Target) -> bool {
    matches!(target, Target::Tcp { host, .. }
        if Host::canonical(host) == Host::Name("localhost".to_owned()))
}

fn canonical(mut address: SocketAddr) -> SocketAddr {
    address.set_ip(canonical_ip(address.ip()));
    address
}
