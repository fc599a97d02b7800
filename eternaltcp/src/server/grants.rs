//! Decides how much memory each tunnel is granted.
//!
//! A grant is a reserved limit, not memory in use. Grants shrink as their number grows, so that the
//! memory is enough for thousands of tunnels, and no key gets more than half.

use eternaltcp_proto::{Refusal, RefusalCode};

use super::ServerLimits;
use crate::report::counted;

/// The minimum grant with which a tunnel is admitted, in each direction.
pub(super) const MIN_GRANT: u64 = 128 << 10;

/// The part of the memory that a key may be granted, as a divisor.
const KEY_PART: u64 = 2;

/// The part of its key's memory that a tunnel may be granted at first, as a divisor.
const FIRST_PART: u64 = 8;

/// The existing grants.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Granted {
    /// The grants of all tunnels together, in each direction.
    pub(super) to_all: u64,
    /// The grants of the requesting key's tunnels.
    pub(super) to_key: u64,
    /// The number of tunnels of that key.
    pub(super) tunnels_of_key: usize,
}

/// The limit that leaves no room for a new tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    /// The key has this many tunnels, the maximum.
    Tunnels(usize),
    /// The key was granted its share of the memory.
    Key,
    /// All memory is granted.
    Memory,
}

impl Full {
    /// Returns whether only tunnels of the same key count towards the limit.
    pub(super) fn is_of_key(self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// Returns the flag that sets the limit.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Tunnels(_) => "--max-tunnels-per-key",
            Self::Key | Self::Memory => "--memory",
        }
    }

    pub(super) fn refusal(self) -> Refusal {
        let advice = match self {
            Self::Tunnels(count) => {
                let tunnels = counted(count, "tunnel", "tunnels");
                format!("the key has {tunnels}: end some of its clients")
            }
            Self::Key => "the key's part of the server's memory is used up: try later".to_owned(),
            Self::Memory => "the server's memory for tunnels is used up: try later".to_owned(),
        };
        Refusal::for_now(RefusalCode::LimitReached, advice)
    }
}

impl Granted {
    /// Returns the grant of a new tunnel in each direction.
    ///
    /// # Errors
    /// Less than [`MIN_GRANT`] is left, or the key has too many tunnels.
    pub(super) fn grant(&self, limits: &ServerLimits) -> Result<u64, Full> {
        if self.tunnels_of_key >= limits.tunnels_per_key {
            return Err(Full::Tunnels(self.tunnels_of_key));
        }
        let [all, key] = self.left(limits);
        if all < MIN_GRANT || key < MIN_GRANT {
            return Err(if all < MIN_GRANT { Full::Memory } else { Full::Key });
        }
        let part = |left: u64, total: u64| left as f64 / total.max(1) as f64;
        let share = part(all, total(limits)).min(part(key, total(limits) / KEY_PART));
        let first = limits.tunnel_memory_at_first.min(limits.tunnel_memory);
        let first = first.min(total(limits) / KEY_PART / FIRST_PART);
        // Because of the square, many tunnels leave room for as many more.
        Ok(((first as f64 * share * share) as u64).max(MIN_GRANT))
    }

    /// Returns twice a tunnel's grant, up to the maximum; `None` if that is more than would be left
    /// free, in total or of its key's share.
    pub(super) fn grow(&self, limit: u64, limits: &ServerLimits) -> Option<u64> {
        let wanted = limit.saturating_mul(2).min(limits.tunnel_memory);
        let more = wanted.saturating_sub(limit);
        let [all, key] = self.left(limits);
        let left = all.min(key).saturating_sub(more);
        (more > 0 && wanted <= left).then_some(wanted)
    }

    /// Returns the memory that is left in total, and of the key's share.
    fn left(&self, limits: &ServerLimits) -> [u64; 2] {
        let total = total(limits);
        [total.saturating_sub(self.to_all), (total / KEY_PART).saturating_sub(self.to_key)]
    }
}

/// Returns the memory that may be granted to all tunnels in each direction.
fn total(limits: &ServerLimits) -> u64 {
    limits.memory / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::MIN_MEMORY;

    fn limits(memory: u64) -> ServerLimits {
        ServerLimits { memory, ..ServerLimits::default() }
    }

    /// Grants memory to tunnels of one key until no room is left, and returns their number.
    fn fill(granted: &mut Granted, limits: &ServerLimits) -> usize {
        (granted.to_key, granted.tunnels_of_key) = (0, 0);
        while let Ok(grant) = granted.grant(limits) {
            granted.to_all += grant;
            granted.to_key += grant;
            granted.tunnels_of_key += 1;
        }
        granted.tunnels_of_key
    }

    #[test]
    fn grants_shrink_so_that_very_many_tunnels_find_room_and_no_key_takes_all() {
        let (limits, mut granted) = (limits(1 << 30), Granted::default());
        assert!(fill(&mut granted, &limits) >= 150);
        assert!(fill(&mut granted, &limits) >= 150, "another key finds its half");
        assert!(granted.to_all * 2 <= limits.memory);
    }

    #[test]
    fn every_memory_that_may_be_set_serves_several_clients() {
        for mib in [MIN_MEMORY >> 20, 5, 8, 16, 64, 96, 128, 192, 1 << 10, 1 << 20] {
            let (limits, mut granted) = (limits(mib << 20), Granted::default());
            assert!(fill(&mut granted, &limits) >= 8, "of one key, {mib} MiB");
            assert!(fill(&mut granted, &limits) >= 8, "of another key, {mib} MiB");
            assert!(granted.to_all * 2 <= limits.memory, "{mib} MiB");
        }
    }

    #[test]
    fn a_tunnel_grows_up_to_its_maximum_and_to_no_more_than_it_leaves_free() {
        let mib = |count: u64| count << 20;
        let limits = ServerLimits { tunnel_memory: mib(48), ..limits(mib(340)) };
        let granted = |own| Granted { to_all: own, to_key: own, tunnels_of_key: 1 };
        assert_eq!(granted(mib(24)).grow(mib(24), &limits), None, "37 would be left, of 85");
        assert_eq!(granted(mib(8)).grow(mib(8), &limits), Some(mib(16)));
        let large = ServerLimits { memory: mib(1024), ..limits };
        assert_eq!(granted(mib(20)).grow(mib(20), &large), Some(mib(40)));
        assert_eq!(granted(mib(40)).grow(mib(40), &large), Some(mib(48)));
        assert_eq!(granted(mib(48)).grow(mib(48), &large), None, "that is the most of one");
    }

    #[test]
    fn a_client_without_room_is_told_the_flag_that_makes_room() {
        let limits = ServerLimits { tunnels_per_key: 3, ..limits(MIN_MEMORY) };
        let some = Granted { tunnels_of_key: 3, ..Granted::default() };
        assert_eq!(some.grant(&limits), Err(Full::Tunnels(3)));
        let key = Granted { to_key: 1 << 20, to_all: 1 << 20, tunnels_of_key: 1 };
        assert_eq!(key.grant(&limits), Err(Full::Key));
        let all = Granted { to_key: 0, to_all: 2 << 20, tunnels_of_key: 0 };
        assert_eq!(all.grant(&limits), Err(Full::Memory));
    }
}
