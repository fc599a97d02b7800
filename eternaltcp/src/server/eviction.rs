//! Decides which detached tunnels end. Pure: the registry gathers the facts and carries out the
//! decision.
//!
//! Memory decides. A tunnel with sessions never ends because of a count: it ends when it was
//! detached for too long, when detached tunnels hold too much memory, or when its process no longer
//! exists.

use std::collections::BTreeMap;
use std::time::Duration;

/// The facts about a detached tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct DetachedTunnel<K> {
    /// The key of its user.
    pub(super) key: K,
    pub(super) detached_for: Duration,
    /// Memory of its queues, in cost units.
    pub(super) held: u64,
    pub(super) sessions: usize,
    /// Tunnels of its key without sessions that are kept.
    pub(super) idle_per_key: usize,
    /// The time for which another process of the same client was attached from the same address,
    /// since the client's own end closed this tunnel's carrier. A living process would have
    /// returned.
    pub(super) outlived_for: Duration,
}

/// The limits of detached tunnels.
#[derive(Clone, Copy, Debug)]
pub(super) struct DetachedLimits {
    /// The longest time that any detached tunnel is kept.
    pub(super) keep: Duration,
    /// The time for which a ghost is kept.
    pub(super) keep_ghosts: Duration,
    /// Memory of all of them together, in cost units.
    pub(super) memory: u64,
}

/// The reason why a detached tunnel ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error("it was detached for too long (--keep-detached)")]
    Expired,
    #[error("its process is gone: others of the same client are attached (--keep-ghosts)")]
    Outlived,
    #[error("its key has too many newer ones without sessions (--max-idle-per-key)")]
    Idle,
    #[error("detached tunnels hold too much memory (--memory)")]
    Memory,
}

/// Time in which a living process dials several times.
const LIKELY_GONE: Duration = Duration::from_secs(30);

impl<K> DetachedTunnel<K> {
    /// Returns whether the tunnel is probably abandoned.
    fn is_ghost(&self) -> bool {
        self.sessions == 0 || self.outlived_for >= LIKELY_GONE
    }
}

/// Returns which of the candidates end, by their indices, and why.
pub(super) fn choose<K: Ord + Copy>(
    candidates: &[DetachedTunnel<K>],
    allowance: &DetachedLimits,
) -> Vec<(usize, Reason)> {
    let mut ending = Vec::new();
    let mut kept = Vec::new();
    for (place, candidate) in candidates.iter().enumerate() {
        if candidate.detached_for >= allowance.keep {
            ending.push((place, Reason::Expired));
        } else if candidate.outlived_for >= allowance.keep_ghosts {
            ending.push((place, Reason::Outlived));
        } else {
            kept.push(place);
        }
    }
    // From here on, those that were detached longest come first.
    kept.sort_by_key(|place| std::cmp::Reverse(candidates[*place].detached_for));
    end_idle(candidates, allowance, &mut kept, &mut ending);
    end_for_memory(candidates, allowance.memory, kept, &mut ending);
    ending
}

/// Ends old tunnels without sessions whose key has many newer ones.
fn end_idle<K: Ord + Copy>(
    candidates: &[DetachedTunnel<K>],
    allowance: &DetachedLimits,
    kept: &mut Vec<usize>,
    ending: &mut Vec<(usize, Reason)>,
) {
    let mut newer: BTreeMap<K, usize> = BTreeMap::new();
    let mut staying = Vec::new();
    for place in kept.drain(..).rev() {
        let candidate = &candidates[place];
        let count = newer.entry(candidate.key).or_default();
        *count += usize::from(candidate.sessions == 0);
        let is_old = candidate.sessions == 0 && candidate.detached_for >= allowance.keep_ghosts;
        if is_old && *count > candidate.idle_per_key {
            ending.push((place, Reason::Idle));
        } else {
            staying.push(place);
        }
    }
    kept.extend(staying.into_iter().rev());
}

/// Ends tunnels until the others hold no more than `most`: ghosts first, then, of the key that
/// holds most, the longest detached tunnel. A tunnel that holds nothing is kept.
fn end_for_memory<K: Ord + Copy>(
    candidates: &[DetachedTunnel<K>],
    most: u64,
    kept: Vec<usize>,
    ending: &mut Vec<(usize, Reason)>,
) {
    let mut held: u64 = kept.iter().map(|place| candidates[*place].held).sum();
    let holds = |place: &usize| candidates[*place].held > 0;
    let (ghosts, others): (Vec<_>, Vec<_>) =
        kept.into_iter().filter(holds).partition(|place| candidates[*place].is_ghost());
    let mut of_keys: BTreeMap<K, (u64, Vec<usize>)> = BTreeMap::new();
    for place in others.into_iter().rev() {
        let (sum, places) = of_keys.entry(candidates[place].key).or_default();
        *sum += candidates[place].held;
        places.push(place);
    }
    let mut ghosts = ghosts.into_iter();
    while held > most {
        let next = ghosts.next().or_else(|| {
            let (sum, places) = of_keys.values_mut().max_by_key(|(sum, _)| *sum)?;
            let place = places.pop()?;
            *sum -= candidates[place].held;
            Some(place)
        });
        let Some(place) = next else { return };
        held -= candidates[place].held;
        ending.push((place, Reason::Memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    const ALLOWANCE: DetachedLimits = DetachedLimits {
        keep: Duration::from_secs(7 * 24 * 3600),
        keep_ghosts: MINUTE,
        memory: 1000,
    };

    /// Returns a tunnel that was detached this many seconds ago.
    fn detached(key: char, seconds: u64, held: u64, sessions: usize) -> DetachedTunnel<char> {
        let detached_for = Duration::from_secs(seconds);
        let outlived_for = Duration::ZERO;
        DetachedTunnel { key, detached_for, held, sessions, idle_per_key: 2, outlived_for }
    }

    fn outlived(candidate: DetachedTunnel<char>, seconds: u64) -> DetachedTunnel<char> {
        DetachedTunnel { outlived_for: Duration::from_secs(seconds), ..candidate }
    }

    #[test]
    fn any_number_of_tunnels_with_sessions_stay_while_memory_lasts() {
        let all: Vec<_> = (0..1000).map(|n| detached('a', 60 + n, 1, 1)).collect();
        assert!(choose(&all, &ALLOWANCE).is_empty());
        let days = 6 * 24 * 3600;
        let all: Vec<_> = (0..10_000).map(|n| detached('a', days + n, 0, 1)).collect();
        assert!(choose(&all, &ALLOWANCE).is_empty());
    }

    #[test]
    fn a_tunnel_ends_when_it_was_detached_for_as_long_as_it_is_kept() {
        let week = ALLOWANCE.keep.as_secs();
        let all = [detached('a', week - 1, 0, 1), detached('a', week, 0, 1)];
        assert_eq!(choose(&all, &ALLOWANCE), [(1, Reason::Expired)]);
    }

    #[test]
    fn memory_is_reclaimed_from_ghosts_first_longest_detached_first() {
        let all = [
            detached('a', 900, 600, 1),
            detached('b', 10, 300, 0),
            outlived(detached('c', 40, 300, 1), 30),
            outlived(detached('a', 800, 300, 1), 29),
        ];
        let ending = choose(&all, &ALLOWANCE);
        assert_eq!(ending, [(2, Reason::Memory), (1, Reason::Memory)]);
    }

    #[test]
    fn memory_is_then_reclaimed_from_the_key_that_holds_most_longest_detached_first() {
        let all = [
            detached('a', 999, 500, 1),
            detached('b', 10, 400, 1),
            detached('b', 30, 400, 1),
            detached('b', 20, 400, 1),
        ];
        // After the end of one tunnel with 400, `b` still holds more than `a`; after two, less.
        let ending = choose(&all, &ALLOWANCE);
        assert_eq!(ending, [(2, Reason::Memory), (3, Reason::Memory)]);
        let ending = choose(&all, &DetachedLimits { memory: 400, ..ALLOWANCE });
        assert_eq!(ending.last(), Some(&(0, Reason::Memory)));
        assert_eq!(ending.len(), 3);
    }

    #[test]
    fn a_tunnel_that_holds_nothing_is_not_ended_for_memory() {
        let all = [detached('a', 900, 0, 1), detached('a', 1, 2000, 1), detached('a', 800, 0, 0)];
        assert_eq!(choose(&all, &ALLOWANCE), [(1, Reason::Memory)]);
    }

    #[test]
    fn a_tunnel_whose_process_is_gone_ends_and_one_that_may_return_does_not() {
        let all = [
            outlived(detached('a', 900, 5, 1), 59),
            outlived(detached('a', 900, 5, 1), 60),
            detached('a', 900, 5, 1),
        ];
        assert_eq!(choose(&all, &ALLOWANCE), [(1, Reason::Outlived)]);
    }

    #[test]
    fn old_tunnels_without_sessions_give_way_to_newer_ones_of_their_key() {
        let all = [
            detached('a', 61, 0, 0),
            detached('a', 900, 0, 0),
            detached('b', 900, 0, 0),
            detached('a', 5, 0, 0),
            detached('a', 901, 0, 1),
            detached('a', 902, 0, 0),
        ];
        assert_eq!(choose(&all, &ALLOWANCE), [(1, Reason::Idle), (5, Reason::Idle)]);
        let more = all.map(|candidate| DetachedTunnel { idle_per_key: 3, ..candidate });
        assert_eq!(choose(&more, &ALLOWANCE), [(5, Reason::Idle)], "the key's own limit counts");
        // In an outage of all clients none of them ends.
        let all: Vec<_> = (0..1000).map(|_| detached('a', 59, 0, 0)).collect();
        assert!(choose(&all, &ALLOWANCE).is_empty());
    }
}
