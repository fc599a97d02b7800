//! A race over whole handshakes: the first carrier that is ready wins, and
//! nobody who is silent, slow or wrong holds it up.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::DialError;

/// A candidate is given this long before the next one joins the race
/// (RFC 8305, section 5: "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// Where a carrier may be made to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    /// Which server, in order of preference.
    pub(super) server: usize,
    pub(super) address: SocketAddr,
}

/// Candidates that wait for their turn.
#[derive(Default)]
struct Queue {
    /// First those that are known to work, then those of names, each by
    /// preference.
    waiting: VecDeque<(bool, Candidate)>,
    known: Vec<Candidate>,
}

impl Queue {
    fn add(&mut self, is_looked_up: bool, candidates: impl IntoIterator<Item = Candidate>) {
        for candidate in candidates {
            if !self.known.contains(&candidate) {
                self.known.push(candidate);
                self.waiting.push_back((is_looked_up, candidate));
            }
        }
        let order =
            |(is_looked_up, candidate): &(bool, Candidate)| (*is_looked_up, candidate.server);
        self.waiting.make_contiguous().sort_by_key(order);
    }

    fn next(&mut self) -> Option<Candidate> {
        self.waiting.pop_front().map(|(_, candidate)| candidate)
    }
}

/// Makes an attempt for each candidate, the first at once, each other one a
/// little later, or as soon as one failed: first for `known`, then for what
/// `lookups` find. Tells the first success, or of all failures the gravest.
/// Dropping the future ends the attempts.
pub(super) async fn race<T, F>(
    known: Vec<Candidate>,
    mut lookups: JoinSet<Result<Vec<Candidate>, DialError>>,
    attempt: impl Fn(Candidate) -> F,
) -> Result<T, Option<DialError>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, DialError>> + Send + 'static,
{
    let mut queue = Queue::default();
    queue.add(false, known);
    let mut running = JoinSet::new();
    let mut next_start = Instant::now();
    let mut error: Option<DialError> = None;
    let mut note = |new: DialError| {
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
                // Only a fault of this program ends the task early.
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
            () = sleep_until(next_start), if !queue.waiting.is_empty() => {
                if let Some(candidate) = queue.next() {
                    running.spawn(attempt(candidate));
                }
                next_start = Instant::now() + STAGGER;
            }
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::time::sleep;

    const NO_LOOKUPS: fn() -> JoinSet<Result<Vec<Candidate>, DialError>> = JoinSet::new;

    fn candidate(server: usize, port: u16) -> Candidate {
        Candidate { server, address: SocketAddr::new([127, 0, 0, 1].into(), port) }
    }

    fn candidates(ports: std::ops::Range<u16>) -> Vec<Candidate> {
        ports.map(|port| candidate(0, port)).collect()
    }

    fn failed() -> DialError {
        DialError::TimedOut("it".to_owned())
    }

    fn millis(start: Instant) -> u128 {
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_never_answer_do_not_hold_up_the_one_who_does() {
        let start = Instant::now();
        let winner = race(candidates(1..4), NO_LOOKUPS(), |it| async move {
            if it.address.port() < 3 { std::future::pending().await } else { Ok(it) }
        });
        assert_eq!(winner.await.unwrap(), candidate(0, 3));
        assert_eq!(millis(start), 500, "a quarter of a second for each who is silent");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_starts_at_once_when_one_failed() {
        let start = Instant::now();
        let winner = race(candidates(1..9), NO_LOOKUPS(), |it| async move {
            if it.address.port() < 8 { Err(failed()) } else { Ok(it) }
        });
        assert_eq!(winner.await.unwrap(), candidate(0, 8));
        assert_eq!(millis(start), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_preferred_one_wins_when_all_are_alike() {
        let lookups = || {
            let mut lookups = JoinSet::new();
            lookups.spawn(async { Ok(vec![candidate(1, 2)]) });
            lookups.spawn(async { Ok(vec![candidate(0, 1)]) });
            lookups
        };
        let started = Arc::new(Mutex::new(Vec::new()));
        let known = vec![candidate(1, 9), candidate(0, 8)];
        let result = race::<(), _>(known, lookups(), |it| {
            started.lock().unwrap().push(it.address.port());
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
            if it.address.port() == 1 { std::future::pending().await } else { Ok(it) }
        });
        assert_eq!(winner.await.unwrap(), candidate(0, 2), "and none is tried twice");
        assert_eq!(millis(start), 3000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_race_without_a_winner_tells_the_gravest_reason() {
        let mut lookups = NO_LOOKUPS();
        lookups.spawn(async { Err(DialError::Trust("unknown".to_owned())) });
        let result = race::<(), _>(candidates(1..3), lookups, |_| async { Err(failed()) });
        assert!(matches!(result.await, Err(Some(DialError::Trust(_)))));
        let nobody = race::<(), _>(Vec::new(), NO_LOOKUPS(), |_| async { Err(failed()) });
        assert!(nobody.await.unwrap_err().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_race_ends_its_attempts() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let endless = race::<(), _>(candidates(1..4), NO_LOOKUPS(), move |_| {
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
}
