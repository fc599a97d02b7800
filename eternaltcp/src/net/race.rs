//! A race over the addresses of a peer (RFC 8305, "Happy Eyeballs"): the first attempt that
//! succeeds wins, and silent, slow or wrong addresses do not delay it. Carriers race over complete
//! handshakes, targets over connections.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use crate::address::canonical_address;

/// Time before the next candidate joins the race (RFC 8305, section 5: "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// The maximum number of addresses of one name that are dialled.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// A candidate of a race.
pub(crate) trait Candidate: PartialEq + Copy {
    /// Returns the preference; lower ones are tried first.
    fn preference(&self) -> usize {
        0
    }
}

impl Candidate for SocketAddr {}

/// The error of an attempt.
pub(crate) trait AttemptError {
    /// Returns the more informative of two errors.
    fn or_graver(self, other: Self) -> Self;
}

impl AttemptError for io::Error {
    fn or_graver(self, other: Self) -> Self {
        if weight(&other) > weight(&self) { other } else { self }
    }
}

/// Returns how informative a connect error is: an answer more than silence, and silence more than a
/// missing route.
fn weight(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => 4,
        io::ErrorKind::PermissionDenied => 3,
        io::ErrorKind::TimedOut => 2,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => 1,
        _ => 0,
    }
}

/// Candidates that wait for their turn.
struct CandidateQueue<C> {
    /// First those that are known to work, then those of names, each group by preference.
    waiting: VecDeque<(bool, C)>,
    known: Vec<C>,
}

impl<C: Candidate> CandidateQueue<C> {
    fn new(candidates: Vec<C>) -> Self {
        let mut queue = Self { waiting: VecDeque::new(), known: Vec::new() };
        queue.add(false, candidates);
        queue
    }

    fn add(&mut self, is_looked_up: bool, candidates: impl IntoIterator<Item = C>) {
        for candidate in candidates {
            if !self.known.contains(&candidate) {
                self.known.push(candidate);
                self.waiting.push_back((is_looked_up, candidate));
            }
        }
        let order = |(is_looked_up, candidate): &(bool, C)| (*is_looked_up, candidate.preference());
        self.waiting.make_contiguous().sort_by_key(order);
    }

    fn next(&mut self) -> Option<C> {
        self.waiting.pop_front().map(|(_, candidate)| candidate)
    }
}

/// Makes an attempt for each candidate: the first at once, each further one after a delay or as
/// soon as one failed; first for `known`, then for the results of `lookups`. Returns the first
/// success, or the gravest of all failures. Dropping the future ends all attempts, and so does the
/// first success.
pub(crate) async fn race<C, T, E, F>(
    known: Vec<C>,
    mut lookups: JoinSet<Result<Vec<C>, E>>,
    attempt: impl Fn(C) -> F,
) -> Result<T, Option<E>>
where
    C: Candidate + 'static,
    T: Send + 'static,
    E: AttemptError + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut queue = CandidateQueue::new(known);
    let mut running = JoinSet::new();
    let mut next_start = Instant::now();
    let mut error: Option<E> = None;
    let mut note = |new: E| {
        error = Some(match error.take() {
            Some(old) => old.or_graver(new),
            None => new,
        });
    };
    while !(lookups.is_empty() && running.is_empty() && queue.waiting.is_empty()) {
        tokio::select! {
            Some(found) = lookups.join_next() => match found {
                Ok(Ok(candidates)) => queue.add(true, candidates),
                Ok(Err(new)) => note(new),
                // The task ends early only because of a fault in this program.
                Err(_) => {}
            },
            Some(done) = running.join_next() => match done {
                Ok(Ok(winner)) => return Ok(winner),
                Ok(Err(new)) => {
                    note(new);
                    next_start = Instant::now();
                }
                Err(_) => {}
            },
            () = start_of_next(next_start), if !queue.waiting.is_empty() => {
                if let Some(candidate) = queue.next() {
                    running.spawn(attempt(candidate).in_current_span());
                }
                next_start = Instant::now() + STAGGER;
            }
        }
    }
    Err(error)
}

/// Waits until `start`. If that has passed it returns at once, because a timer would round up to
/// its next millisecond.
async fn start_of_next(start: Instant) {
    if Instant::now() < start {
        sleep_until(start).await;
    }
}

/// Returns the order in which to dial addresses: IPv6 and IPv4 in turn, starting with the family of
/// the first (RFC 8305, section 4).
pub(crate) fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = addresses.into_iter().map(canonical_address).collect();
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let mut turn = [0_usize; 2];
    // The sort is stable: the order within a family is the system's.
    addresses.sort_by_cached_key(|address| {
        let is_second = address.is_ipv6() != first_is_v6;
        let place = &mut turn[usize::from(is_second)];
        *place += 1;
        (*place, is_second)
    });
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::time::sleep;

    const NO_LOOKUPS: fn() -> JoinSet<Result<Vec<TestCandidate>, io::Error>> = JoinSet::new;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct TestCandidate {
        server: usize,
        port: u16,
    }

    impl Candidate for TestCandidate {
        fn preference(&self) -> usize {
            self.server
        }
    }

    fn candidate(server: usize, port: u16) -> TestCandidate {
        TestCandidate { server, port }
    }

    fn candidates(ports: std::ops::Range<u16>) -> Vec<TestCandidate> {
        ports.map(|port| candidate(0, port)).collect()
    }

    fn failed() -> io::Error {
        io::ErrorKind::TimedOut.into()
    }

    fn parse(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn millis(start: Instant) -> u128 {
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_candidates_do_not_delay_the_one_that_answers() {
        let start = Instant::now();
        let winner = race(candidates(1..4), NO_LOOKUPS(), |it| async move {
            if it.port < 3 { std::future::pending().await } else { Ok(it) }
        });
        assert_eq!(winner.await.unwrap(), candidate(0, 3));
        assert_eq!(millis(start), 500, "a quarter of a second for each who is silent");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_starts_at_once_when_one_failed() {
        let start = Instant::now();
        let winner = race(candidates(1..9), NO_LOOKUPS(), |it| async move {
            if it.port < 8 { Err(failed()) } else { Ok(it) }
        });
        assert_eq!(winner.await.unwrap(), candidate(0, 8));
        assert_eq!(millis(start), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_one_starts_between_two_ticks_of_the_timer() {
        tokio::time::advance(Duration::from_micros(500)).await;
        let start = Instant::now();
        race(candidates(1..2), NO_LOOKUPS(), |it| async move { Ok::<_, io::Error>(it) })
            .await
            .unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_preferred_one_wins_when_all_are_alike() {
        let lookups = || {
            let mut lookups = NO_LOOKUPS();
            lookups.spawn(async { Ok(vec![candidate(1, 2)]) });
            lookups.spawn(async { Ok(vec![candidate(0, 1)]) });
            lookups
        };
        let started = Arc::new(Mutex::new(Vec::new()));
        let known = vec![candidate(1, 9), candidate(0, 8)];
        let result = race::<_, (), _, _>(known, lookups(), |it| {
            started.lock().unwrap().push(it.port);
            async { std::future::pending().await }
        });
        assert!(tokio::time::timeout(Duration::from_secs(5), result).await.is_err());
        assert_eq!(*started.lock().unwrap(), [8, 9, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_a_slow_name_join_the_race() {
        let mut lookups = NO_LOOKUPS();
        lookups.spawn(async {
            sleep(Duration::from_secs(3)).await;
            Ok(vec![candidate(0, 1), candidate(0, 2)])
        });
        let start = Instant::now();
        let winner = race(vec![candidate(0, 1)], lookups, |it| async move {
            if it.port == 1 { std::future::pending().await } else { Ok(it) }
        });
        assert_eq!(winner.await.unwrap(), candidate(0, 2), "and none is tried twice");
        assert_eq!(millis(start), 3000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_race_without_a_winner_tells_the_gravest_reason() {
        let mut lookups = NO_LOOKUPS();
        lookups.spawn(async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) });
        let result = race::<_, (), _, _>(candidates(1..3), lookups, |_| async { Err(failed()) });
        assert!(
            matches!(result.await, Err(Some(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
        );
        let nobody = race::<_, (), _, _>(Vec::new(), NO_LOOKUPS(), |_| async { Err(failed()) });
        assert!(nobody.await.unwrap_err().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_race_ends_its_attempts() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let endless = race::<_, (), _, _>(candidates(1..4), NO_LOOKUPS(), move |_| {
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                std::future::pending().await
            }
        });
        assert!(tokio::time::timeout(Duration::from_secs(2), endless).await.is_err());
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn families_take_turns() {
        let addresses =
            ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "[::ffff:1.0.0.2]:1"].map(parse);
        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"].map(parse);
        assert_eq!(in_turns(addresses.to_vec()), expected);
        assert_eq!(in_turns(vec![parse("1.0.0.1:1")]), [parse("1.0.0.1:1")]);
    }

    #[test]
    fn a_name_with_very_many_addresses_is_bounded() {
        let many = (0..=255).map(|n| SocketAddr::new([10, 0, 0, n].into(), 1)).collect();
        assert_eq!(in_turns(many).len(), MAX_ADDRESSES);
    }
}
