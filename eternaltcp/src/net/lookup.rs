//! Look-ups of target names, on threads that nothing else waits for.
//!
//! getaddrinfo(3) honours the system's whole configuration (nsswitch.conf(5)), may take many
//! seconds, and cannot be cancelled. Therefore each look-up has its own thread, the number of
//! threads is small, and no user gets all of them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eternaltcp_proto::{Cause, Reset};
use tokio::sync::oneshot;
use tracing::warn;

use crate::fair::max_of_one;
use crate::metrics::ProcessCounters;
use crate::notice::Notice;
use crate::report::counted;
use eternaltcp_tls::PublicKey;

/// The maximum number of look-ups of one user that may be queued.
const MAX_WAITING: usize = 1024;

/// The stack of a look-up thread: modules of nsswitch.conf(5) are foreign code.
const STACK: usize = 512 * 1024;

/// The user of a look-up: that of a key, or this process's own user.
pub(crate) type User = Option<PublicKey>;

/// Converts a name to addresses; may block.
type ResolveName = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The look-ups of a process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Lookups {
    ask: Arc<ResolveName>,
    places: LookupSlots,
    most: usize,
    /// The flag that sets the limit, which the log names when the limit is reached, and where that
    /// is counted.
    flag: Option<(&'static str, Arc<ProcessCounters>)>,
    notice: Arc<Notice>,
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Lookups {
    /// Creates a table of at most `most` concurrent look-ups; a key gets half of those that others
    /// leave.
    pub(crate) fn new(most: usize) -> Self {
        Self::with(most, Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect())))
    }

    /// Makes the log name `flag` when look-ups have to wait, and counts that.
    pub(crate) fn limited_by(self, flag: &'static str, counts: Arc<ProcessCounters>) -> Self {
        Self { flag: Some((flag, counts)), ..self }
    }

    /// Returns how many look-ups are running, and how many may run.
    pub(crate) fn level(&self) -> (usize, usize) {
        let free = self.places.lock().free;
        (self.most.saturating_sub(free), self.most)
    }

    fn with(most: usize, ask: Arc<ResolveName>) -> Self {
        let places = LookupSlots::new(most);
        Self { ask, places, most, flag: None, notice: Arc::default() }
    }

    /// Resolves a host. A dropped future gives up its place in the queue; a started look-up keeps
    /// its place until it ends.
    ///
    /// # Errors
    /// The reset for the session that asked for the name.
    pub(crate) async fn resolve(
        &self,
        user: &User,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Reset> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let full = || {
            let why = format!("{host}: too many names wait to be looked up");
            Reset::with_detail(Cause::LimitReached, why)
        };
        let failed =
            |error: io::Error| Reset::with_detail(Cause::NotFound, format!("{host}: {error}"));
        let mut turn = self.places.queue(user).ok_or_else(full)?;
        let place = match turn.try_recv() {
            Ok(place) => place,
            Err(_) => {
                self.tell(user);
                turn.await.map_err(|_| full())?
            }
        };
        let (answer, answered) = oneshot::channel();
        let (ask, name) = (Arc::clone(&self.ask), host.to_owned());
        let thread = std::thread::Builder::new().name("look-up".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            let found = ask(&name, port);
            drop(place);
            // The session may be gone.
            let _ = answer.send(found);
        });
        started.map_err(|error| {
            let why = format!("{host}: no thread to look it up: {error}");
            Reset::with_detail(Cause::LimitReached, why)
        })?;
        let ended = |_| Err(io::Error::other("the look-up ended early"));
        answered.await.unwrap_or_else(ended).map_err(failed)
    }

    /// Logs from time to time that look-ups wait.
    fn tell(&self, user: &User) {
        let Some((flag, counts)) = &self.flag else { return };
        counts.count_limit(flag, 1);
        if let Some(times) = self.notice.due() {
            let key = user.as_ref().map_or_else(String::new, PublicKey::fingerprint);
            warn!(
                "names wait to be looked up ({}, now of key {key}): see {flag}",
                counted(times, "time", "times")
            );
        }
    }

    /// Returns how many look-ups of a user are running, and how many wait.
    #[cfg(test)]
    fn counts(&self, user: &User) -> (usize, usize) {
        let table = self.places.lock();
        let waiting =
            |share: &UserLookups| share.waiting.iter().filter(|it| !it.is_closed()).count();
        table.users.get(user).map_or((0, 0), |share| (share.running, waiting(share)))
    }
}

/// Places for look-ups, shared out among users.
#[derive(Clone, Debug)]
struct LookupSlots(Arc<Mutex<LookupTable>>);

#[derive(Debug)]
struct LookupTable {
    free: usize,
    users: BTreeMap<User, UserLookups>,
    /// A counter of turns, which serves the user first who waited longest.
    turn: u64,
}

/// The places of one user, and its waiting look-ups.
#[derive(Debug, Default)]
struct UserLookups {
    running: usize,
    waiting: VecDeque<oneshot::Sender<LookupSlot>>,
    served: u64,
}

/// A place for one look-up, released when dropped.
#[derive(Debug)]
struct LookupSlot {
    places: LookupSlots,
    user: User,
}

impl LookupSlots {
    fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(LookupTable { free: most, users: BTreeMap::new(), turn: 0 })))
    }

    /// Returns a receiver that is notified of a free place; `None` if too many look-ups of the same
    /// user wait already.
    fn queue(&self, user: &User) -> Option<oneshot::Receiver<LookupSlot>> {
        let turn = {
            let mut table = self.lock();
            let share = table.users.entry(user.clone()).or_default();
            if share.waiting.len() >= MAX_WAITING {
                share.waiting.retain(|waiting| !waiting.is_closed());
            }
            if share.waiting.len() >= MAX_WAITING {
                return None;
            }
            let (sender, turn) = oneshot::channel();
            share.waiting.push_back(sender);
            turn
        };
        self.hand_out();
        Some(turn)
    }

    /// Gives free places to waiting look-ups.
    fn hand_out(&self) {
        loop {
            let Some((user, waiting)) = self.lock().next() else { return };
            // A look-up that was just abandoned returns its place by dropping it.
            let _ = waiting.send(LookupSlot { places: self.clone(), user });
        }
    }

    fn lock(&self) -> MutexGuard<'_, LookupTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookupTable {
    /// Returns the next user: of those who may have one more place, the one with the fewest, and
    /// among these the one served longest ago.
    fn next(&mut self) -> Option<(User, oneshot::Sender<LookupSlot>)> {
        let free = self.free;
        for share in self.users.values_mut() {
            while share.waiting.front().is_some_and(oneshot::Sender::is_closed) {
                share.waiting.pop_front();
            }
        }
        self.users.retain(|_, share| share.running > 0 || !share.waiting.is_empty());
        let may_have = |user: &User, share: &UserLookups| match user {
            Some(_) => share.running < max_of_one(free, share.running),
            None => true,
        };
        let (user, share) = self
            .users
            .iter_mut()
            .filter(|(user, share)| free > 0 && !share.waiting.is_empty() && may_have(user, share))
            .min_by_key(|(_, share)| (share.running, share.served))?;
        let waiting = share.waiting.pop_front()?;
        self.turn += 1;
        self.free -= 1;
        (share.running, share.served) = (share.running + 1, self.turn);
        Some((user.clone(), waiting))
    }
}

impl Drop for LookupSlot {
    fn drop(&mut self) {
        {
            let mut table = self.places.lock();
            table.free += 1;
            if let Some(share) = table.users.get_mut(&self.user) {
                share.running -= 1;
            }
        }
        self.places.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;
    use eternaltcp_tls::Identity;

    /// A resolver that answers only on command.
    #[derive(Default)]
    struct Silent {
        answers: Mutex<bool>,
        released: Condvar,
    }

    impl Silent {
        fn answer(&self) {
            *self.answers.lock().unwrap() = true;
            self.released.notify_all();
        }
    }

    fn silent(most: usize) -> (Lookups, Arc<Silent>) {
        let silent = Arc::new(Silent::default());
        let resolver = Arc::clone(&silent);
        let ask = move |_: &str, port| {
            let answers = resolver.answers.lock().unwrap();
            drop(resolver.released.wait_while(answers, |answers| !*answers).unwrap());
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        };
        (Lookups::with(most, Arc::new(ask)), silent)
    }

    fn key() -> User {
        Some(Identity::generate().unwrap().public_key())
    }

    /// Starts a look-up, and waits until it runs or is queued.
    async fn ask(
        lookups: &Lookups,
        user: &User,
    ) -> tokio::task::JoinHandle<Result<Vec<SocketAddr>, Reset>> {
        let (own, of) = (lookups.clone(), user.clone());
        let (running, waiting) = lookups.counts(user);
        let task = tokio::spawn(async move { own.resolve(&of, "example.org", 7).await });
        while lookups.counts(user) == (running, waiting) {
            tokio::task::yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn names_that_nobody_answers_leave_places_to_every_other_user() {
        let (lookups, resolver) = silent(8);
        let (greedy, other) = (key(), key());
        let mut tasks = Vec::new();
        for _ in 0..20 {
            tasks.push(ask(&lookups, &greedy).await);
        }
        assert_eq!(lookups.counts(&greedy), (4, 16));
        for _ in 0..3 {
            tasks.push(ask(&lookups, &other).await);
        }
        assert_eq!(lookups.counts(&other), (2, 1));
        let third = key();
        tasks.push(ask(&lookups, &third).await);
        assert_eq!(lookups.counts(&third), (1, 0));
        resolver.answer();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), ["192.0.2.1:7".parse().unwrap()]);
        }
        assert!(lookups.places.lock().free == 8 && lookups.places.lock().next().is_none());
        assert!(lookups.places.lock().users.is_empty());
    }

    #[tokio::test]
    async fn a_look_up_that_is_given_up_holds_its_place_until_it_ends_and_no_turn() {
        let (lookups, resolver) = silent(2);
        let user = key();
        let (first, second) = (ask(&lookups, &user).await, ask(&lookups, &user).await);
        assert_eq!(lookups.counts(&user), (1, 1));
        first.abort();
        second.abort();
        assert!(first.await.is_err() && second.await.is_err());
        let third = ask(&lookups, &user).await;
        assert_eq!(lookups.counts(&user), (1, 1), "the thread still waits for its answer");
        resolver.answer();
        third.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn too_many_names_are_refused_and_an_address_needs_no_turn() {
        let (lookups, resolver) = silent(2);
        let user = key();
        let mut tasks = Vec::new();
        for _ in 0..=MAX_WAITING {
            tasks.push(ask(&lookups, &user).await);
        }
        let refused = lookups.resolve(&user, "example.org", 7).await.unwrap_err();
        assert_eq!(refused.cause, Cause::LimitReached);
        for address in ["192.0.2.9", "2001:db8::1"] {
            let found = lookups.resolve(&user, address, 7).await.unwrap();
            assert_eq!(found, [SocketAddr::new(address.parse().unwrap(), 7)]);
        }
        resolver.answer();
    }
}
